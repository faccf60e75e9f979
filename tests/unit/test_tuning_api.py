"""Fine-tuning at the simulated frontier, as the vendor's own client sees it."""

import json

import openai
import pytest

from apprentice.testing import Fault, Frontier, Reply
from apprentice.testing.tuning_jobs import ENDED

MODEL = "gpt-4.1-nano-2025-04-14"
OUTPUT = {"label": "a"}


class HandClock:
    """Time that moves when it is told to."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now_ns(self) -> int:
        return int((1_767_225_600 + self.seconds) * 1e9)

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        self.seconds += seconds


def chats(count: int) -> bytes:
    told = [{"role": "user", "content": '{"text":"hi"}'}, {"role": "assistant", "content": json.dumps(OUTPUT)}]
    return b"".join(json.dumps({"messages": told, "number": at}).encode() + b"\n" for at in range(count))


@pytest.fixture
def clock():
    return HandClock()


@pytest.fixture
async def frontier(clock):
    async with Frontier(lambda asked: Reply(output=OUTPUT, logprob=-0.25), clock=clock, tuning_s=100.0) as running:
        yield running


@pytest.fixture
async def client(frontier):
    async with openai.AsyncOpenAI(api_key="sk-0123456789", base_url=f"{frontier.url}/v1", max_retries=0) as opened:
        yield opened


def checked(answer):
    """The client builds its classes without checking; this checks."""
    type(answer).model_validate(answer.model_dump(), strict=True)
    return answer


async def upload(client, count=20):
    return checked(await client.files.create(file=("train.jsonl", chats(count)), purpose="fine-tune"))


async def create(client, file, **more):
    return checked(await client.fine_tuning.jobs.create(model=MODEL, training_file=file, **more))


async def test_a_file_is_uploaded_read_and_deleted(client):
    file = await upload(client)
    assert (file.purpose, file.filename, file.bytes) == ("fine-tune", "train.jsonl", len(chats(20)))
    assert checked(await client.files.retrieve(file.id)) == file
    assert [each async for each in client.files.list(purpose="fine-tune")] == [file]
    assert (await client.files.content(file.id)).content == chats(20)
    assert checked(await client.files.delete(file.id)).deleted
    with pytest.raises(openai.NotFoundError):
        await client.files.retrieve(file.id)


@pytest.mark.parametrize("content", [b"no json\n", b"[1]\n"])
async def test_what_is_no_jsonl_is_refused(client, content):
    with pytest.raises(openai.BadRequestError, match="Line 1 is not a dictionary"):
        await client.files.create(file=("train.jsonl", content), purpose="fine-tune")


async def test_files_for_another_purpose_are_refused(client):
    with pytest.raises(openai.BadRequestError, match="purpose"):
        await client.files.create(file=("train.jsonl", chats(1)), purpose="batch")


async def test_a_job_passes_through_its_statuses_to_a_model(frontier, client, clock):
    file = await upload(client)
    method = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2, "batch_size": 4}}}
    job = await create(client, file.id, suffix="tickets", seed=7, method=method, metadata={"version": "tickets@v1"})
    assert (job.status, job.seed, job.metadata) == ("validating_files", 7, {"version": "tickets@v1"})
    seen = []
    for clock.seconds in (5.0, 15.0, 50.0, 100.0):
        job = checked(await client.fine_tuning.jobs.retrieve(job.id))
        seen.append(job.status)
    assert seen == ["validating_files", "queued", "running", "succeeded"]
    assert job.fine_tuned_model.startswith(f"ft:{MODEL}:simulated:tickets:")
    assert job.trained_tokens == 2 * -(-len(chats(20)) // 4)
    assert frontier.tuning.status(job.id) == "succeeded"
    answer = await client.chat.completions.create(
        model=job.fine_tuned_model, messages=[{"role": "user", "content": '{"text":"hi"}'}], logprobs=True
    )
    tokens = checked(answer).choices[0].logprobs.content
    assert json.loads("".join(token.token for token in tokens)) == OUTPUT
    assert {token.logprob for token in tokens} == {-0.25}


async def test_events_come_newest_first_and_in_pages(client, clock):
    job = await create(client, (await upload(client)).id)
    clock.seconds = 60.5
    page = checked(await client.fine_tuning.jobs.list_events(job.id, limit=2))
    assert [event.message for event in page.data] == [
        "Step 30/60: training loss=0.27",
        "Step 29/60: training loss=0.29",
    ]
    assert page.data[0].data == {"step": 30, "total_steps": 60, "train_loss": 0.2707}
    everything = [event async for event in client.fine_tuning.jobs.list_events(job.id, limit=10)]
    assert len({event.id for event in everything}) == len(everything) == 34
    assert everything[-1].message == f"Created fine-tuning job: {job.id}"


async def test_jobs_are_listed_newest_first(client):
    file = await upload(client)
    made = [(await create(client, file.id, seed=seed)).id for seed in range(3)]
    assert [job.id async for job in client.fine_tuning.jobs.list(limit=2)] == made[::-1]


async def test_a_cancelled_job_stays_cancelled(client, clock):
    job = await create(client, (await upload(client)).id)
    clock.seconds = 50.0
    assert checked(await client.fine_tuning.jobs.cancel(job.id)).status == "cancelled"
    clock.seconds = 500.0
    assert (await client.fine_tuning.jobs.retrieve(job.id)).status == "cancelled"
    with pytest.raises(openai.BadRequestError, match="already completed"):
        await client.fine_tuning.jobs.cancel(job.id)
    newest = await client.fine_tuning.jobs.list_events(job.id, limit=1)
    assert newest.data[0].message == "Fine-tuning job cancelled"


async def test_too_few_examples_fail_at_validation(client, clock):
    job = await create(client, (await upload(client, 3)).id)
    clock.seconds = 10.0
    failed = checked(await client.fine_tuning.jobs.retrieve(job.id))
    assert (failed.status, failed.error.code) == ("failed", "invalid_n_examples")
    assert "must have at least 10" in failed.error.message
    assert failed.fine_tuned_model is None


async def test_a_job_fails_when_it_is_told_to(frontier, client, clock):
    frontier.tuning.fail_next("The job was blocked by our safety checks.", "unsafe")
    job = await create(client, (await upload(client)).id)
    clock.seconds = 40.0
    assert (await client.fine_tuning.jobs.retrieve(job.id)).status == "running"
    clock.seconds = 50.0
    assert (await client.fine_tuning.jobs.retrieve(job.id)).error.code == "unsafe"
    assert (await client.fine_tuning.jobs.list_events(job.id, limit=1)).data[0].level == "error"
    assert frontier.tuning.status(job.id) in ENDED


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"training_file": "file-unknown"}, "invalid training_file"),
        ({"suffix": "a b"}, "suffix"),
        ({"hyperparameters": {"n_epochs": 0}}, "n_epochs"),
        ({"hyperparameters": {"rank": 8}}, "rank"),
        ({"method": {"type": "dpo"}}, "method.type"),
        ({"extra_body": {"packing": True}}, "packing"),
    ],
)
async def test_a_job_that_cannot_be_is_refused(client, fields, says):
    file = await upload(client)
    with pytest.raises(openai.BadRequestError, match=says):
        await create(client, **{"file": fields.pop("training_file", file.id), **fields})


async def test_a_lost_connection_does_not_undo_the_deed(frontier, client):
    file = await upload(client)
    frontier.fail_next(Fault.cut_connection)
    with pytest.raises(openai.APIConnectionError):
        await create(client, file.id)
    assert [job.training_file async for job in client.fine_tuning.jobs.list()] == [file.id]


async def test_refusals_and_the_key_are_as_everywhere(frontier, client):
    frontier.fail_next(Fault.rate_limited)
    with pytest.raises(openai.RateLimitError):
        await upload(client)
    frontier.fail_next(Fault.bad_gateway)
    with pytest.raises(openai.InternalServerError):
        await upload(client)
    assert frontier.tuning.files == {}
    for missing in ("ftjob-1", "ftjob-2"):
        with pytest.raises(openai.NotFoundError):
            await client.fine_tuning.jobs.retrieve(missing)
    assert [call.api for call in frontier.calls] == ["fine_tuning"] * 4
