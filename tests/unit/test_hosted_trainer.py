"""Fine-tuning at a provider, from end to end against the simulated frontier: nothing is paid twice."""

import asyncio
import json
from decimal import Decimal
from typing import Any

import pytest
from hosted_rig import BASE, KEY, SCHEMA, Rig

from apprentice.errors import InvalidConfig, MissingExtra
from apprentice.local.confidence import Card, Token
from apprentice.local.hosted import HostedModel
from apprentice.testing import Fault
from apprentice.testing.tuning_jobs import TuningJob
from apprentice.training.versions import check_manifest
from apprentice_actors.ports import Question, TrainingFailure

HOUR_S = 3600.0


@pytest.fixture
def rig(tmp_path, monkeypatch) -> Rig:
    monkeypatch.setenv("HOSTED_KEY", KEY)
    return Rig(tmp_path)


# ---------------------------------------------------------------- the whole way


async def test_a_version_names_the_model_that_was_trained_and_what_it_is_worth(rig):
    made = await rig.trainer().train(rig.job(), rig.tell)
    (job,) = rig.jobs
    manifest = check_manifest(rig.folder(1), made.manifest_sha256)
    assert json.loads((rig.folder(1) / "hosted.json").read_bytes()) == {"model": job.fine_tuned_model, "job": job.id}
    assert (manifest.base, manifest.version, set(manifest.files)) == (
        BASE,
        "tickets@v1",
        {"hosted.json", "confidence.json"},
    )
    card = Card.load(rig.folder(1))
    assert (card.rows, card.agreement, card.fields) == (10, 1.0, ("label",))
    assert made.metrics["agreement_holdout"] == 1.0
    assert made.metrics["rows_train"] == 40.0
    assert made.cost_nd == 3 * job.tokens * 1500
    assert made.seconds > 600.0
    assert rig.left == ["v1"]
    assert rig.frontier.tuning.files == {}


async def test_what_was_trained_is_served(rig):
    await rig.trainer().train(rig.job(), rig.tell)
    served = HostedModel(rig.local(), client=rig.client())
    await served.load("tickets@v1", rig.folder(1))
    answer = await served.answer(
        Question(task="tickets", input={"text": "ticket 7"}, output_schema=SCHEMA), "tickets@v1"
    )
    assert answer.output == {"label": "b"}
    assert answer.p_agree == Card.load(rig.folder(1)).p_agree([Token(text='{"label":"b"}', logprob=-0.01)])
    assert answer.p_agree > 0.8
    await served.aclose()


async def test_what_is_uploaded_is_the_chat_that_will_be_served(rig):
    trainer = rig.trainer(epochs=2, batch_size=4)
    inner = asyncio.create_task(trainer.train(rig.job(5), rig.tell))
    await rig.until(lambda: rig.jobs)
    (file,) = rig.frontier.tuning.files.values()
    first = json.loads(file.content.splitlines()[0])["messages"]
    assert [each["role"] for each in first] == ["system", "user", "assistant"]
    assert first[0]["content"].startswith("Label the ticket.")
    assert first[1:] == [
        {"role": "user", "content": '{"text":"ticket 0"}'},
        {"role": "assistant", "content": '{"label":"a"}'},
    ]
    assert len(file.content.splitlines()) == 40
    (job,) = rig.jobs
    assert (job.epochs, job.batch, job.seed, job.suffix, job.model) == (2, 4, 5, "tickets", BASE)
    assert job.metadata == {"version": "tickets@v5"}
    await inner


async def test_progress_follows_the_vendors_steps(rig):
    await rig.trainer().train(rig.job(), rig.tell)
    fractions = [fraction for fraction, _ in rig.said]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    words = [word for _, word in rig.said]
    assert any("queue" in word for word in words)
    assert any(word.startswith("step ") and "loss" in word for word in words)


async def test_rows_that_the_model_gets_wrong_or_leaves_out_count_against_it(rig):
    rig.answer = lambda asked: {"label": "b"} if asked["text"] != "ticket 41" else {"note": "no label"}
    made = await rig.trainer().train(rig.job(), rig.tell)
    assert made.metrics["agreement_holdout"] == 0.4
    assert Card.load(rig.folder(1)).rows == 10


async def test_a_model_that_cannot_be_asked_has_a_card_without_rows(rig):
    def nothing(asked: dict[str, Any]) -> dict[str, Any]:
        raise LookupError("no answers today")

    rig.answer = nothing
    made = await rig.trainer().train(rig.job(), rig.tell)
    assert made.metrics["rows_holdout"] == 0.0
    assert Card.load(rig.folder(1)).rows == 0
    assert any("got no answer" in word for _, word in rig.said)


async def test_a_version_starts_from_its_parent_unless_told_not_to(rig):
    trainer = rig.trainer()
    await trainer.train(rig.job(1), rig.tell)
    parent = {"parent": "tickets@v1", "parent_folder": str(rig.folder(1))}
    await trainer.train(rig.job(2, train=30, **parent), rig.tell)
    await trainer.train(rig.job(3, train=20, settings={"continue_from_parent": False}, **parent), rig.tell)
    first, second, third = rig.jobs
    assert (second.model, third.model) == (first.fine_tuned_model, BASE)
    assert check_manifest(rig.folder(2)).base == BASE


# ---------------------------------------------------------------- interruptions


async def test_a_job_that_was_cut_off_is_taken_up_again_and_paid_once(rig):
    trainer = rig.trainer()
    inner = asyncio.create_task(trainer.train(rig.job(1), rig.tell))
    await rig.until(lambda: any(word.startswith("step ") for _, word in rig.said))
    inner.cancel()
    with pytest.raises(asyncio.CancelledError):
        await inner
    assert rig.left == [".v1.openai.json"]
    assert "ticket 0" not in (rig.home / "tickets" / ".v1.openai.json").read_text()
    made = await rig.trainer().train(rig.job(1), rig.tell)
    check_manifest(rig.folder(1), made.manifest_sha256)
    assert len(rig.jobs) == 1
    assert rig.left == ["v1"]
    assert any("going on with" in word for _, word in rig.said)


async def test_the_next_number_with_the_same_data_takes_it_over_too(rig):
    trainer = rig.trainer()
    inner = asyncio.create_task(trainer.train(rig.job(1), rig.tell))
    await rig.until(lambda: rig.jobs)
    await trainer.aclose()
    with pytest.raises(TrainingFailure, match="the trainer was closed"):
        await inner
    rig.clock.seconds += 5 * HOUR_S  # it was ready long ago, whatever the cap says
    await rig.trainer().train(rig.job(2), rig.tell)
    assert len(rig.jobs) == 1
    assert rig.left == ["v2"]


async def test_other_data_cancel_what_was_left(rig):
    inner = asyncio.create_task(rig.trainer().train(rig.job(1), rig.tell))
    await rig.until(lambda: rig.jobs)
    inner.cancel()
    await asyncio.wait([inner])
    await rig.trainer().train(rig.job(2, train=30), rig.tell)
    left, taken = (rig.frontier.tuning.status(job.id) for job in rig.jobs)
    assert (left, taken) == ("cancelled", "succeeded")
    assert rig.left == ["v2"]
    assert rig.frontier.tuning.files == {}


async def test_a_crash_between_creating_and_noting_it_does_not_create_twice(rig):
    trainer = rig.trainer()
    created = rig.frontier.tuning.answer
    broken: list[str] = []

    def answer(request: Any, api_key: Any) -> bytes:
        body = created(request, api_key)
        if request.method == "POST" and request.path == "/v1/fine_tuning/jobs" and not broken:
            broken.append(request.path)
            return b'{"id":'
        return body

    rig.frontier.tuning.answer = answer
    await trainer.train(rig.job(), rig.tell)
    assert broken
    assert len(rig.jobs) == 1


@pytest.mark.parametrize(
    "fault", [Fault.rate_limited, Fault.server_error, Fault.bad_gateway, Fault.cut_connection, Fault.garbled]
)
@pytest.mark.parametrize("after", range(6))
async def test_a_fault_at_any_exchange_is_survived(rig, fault, after):
    calls = {after: fault}
    drawn = rig.frontier._faults.draw
    rig.frontier._faults.draw = lambda index: calls.get(index) or drawn(index)
    await rig.trainer().train(rig.job(), rig.tell)
    assert len(rig.jobs) == 1
    assert rig.left == ["v1"]
    assert rig.frontier.tuning.files == {}


async def test_a_claim_that_cannot_be_read_is_reported_and_replaced(rig, caplog):
    (rig.home / "tickets").mkdir()
    (rig.home / "tickets" / ".v1.openai.json").write_text("{")
    await rig.trainer().train(rig.job(1), rig.tell)
    assert "cannot be read" in caplog.text
    assert rig.left == ["v1"]


async def test_jobs_of_one_task_at_once_do_not_take_each_others(rig):
    trainer = rig.trainer()
    await asyncio.gather(*(trainer.train(rig.job(number), rig.tell) for number in (1, 2, 3)))
    assert len({json.loads((rig.folder(number) / "hosted.json").read_bytes())["job"] for number in (1, 2, 3)}) == 3
    assert [rig.frontier.tuning.status(job.id) for job in rig.jobs] == ["succeeded"] * 3


# ---------------------------------------------------------------- failures


async def test_the_vendors_reason_is_passed_on_and_nothing_stays(rig):
    rig.frontier.tuning.fail_next("The job was blocked by our safety checks.", "unsafe")
    with pytest.raises(TrainingFailure, match="unsafe The job was blocked by our safety checks"):
        await rig.trainer().train(rig.job(), rig.tell)
    assert rig.left == []
    assert rig.frontier.tuning.files == {}


async def test_a_job_cancelled_at_the_vendor_is_a_failure(rig):
    inner = asyncio.create_task(rig.trainer().train(rig.job(), rig.tell))
    await rig.until(lambda: rig.jobs)
    rig.jobs[0].cancelled = rig.clock.seconds
    with pytest.raises(TrainingFailure, match="it was cancelled there"):
        await inner
    assert rig.left == []


async def test_the_time_cap_cancels_the_vendors_job(rig):
    rig.frontier.tuning.seconds = 5 * HOUR_S
    with pytest.raises(TrainingFailure, match=r"not ready after 30 minutes.*max_minutes"):
        await rig.trainer(max_minutes=30).train(rig.job(), rig.tell)
    assert rig.frontier.tuning.status(rig.jobs[0].id) == "cancelled"
    assert 1800 < rig.clock.seconds < 1900
    assert rig.left == []


async def test_a_vendor_that_stays_away_is_a_failure_and_the_job_is_not_lost(rig):
    trainer = rig.trainer(stuck_after_s=120)
    inner = asyncio.create_task(trainer.train(rig.job(), rig.tell))
    await rig.until(lambda: rig.jobs)
    rig.frontier.fail_next(Fault.unavailable, 1000)
    with pytest.raises(TrainingFailure, match="status 503"):
        await inner
    assert rig.left == [".v1.openai.json"]
    rig.frontier._faults._next.clear()
    assert len(rig.frontier.tuning.files) == 1
    await trainer.train(rig.job(), rig.tell)
    assert len(rig.jobs) == 1


@pytest.mark.parametrize("fault", [Fault.unauthorized, Fault.spend_limit, Fault.forbidden])
async def test_a_plain_no_is_not_asked_again(rig, fault):
    rig.frontier.fail_next(fault)
    with pytest.raises(TrainingFailure, match="answered with status"):
        await rig.trainer().train(rig.job(), rig.tell)
    assert len(rig.frontier.calls) == 1
    assert rig.left == []


async def test_a_job_that_the_vendor_has_lost_is_forgotten(rig):
    inner = asyncio.create_task(rig.trainer().train(rig.job(), rig.tell))
    await rig.until(lambda: rig.jobs)
    rig.frontier.tuning.jobs.clear()
    with pytest.raises(TrainingFailure, match="404"):
        await inner
    assert rig.left == []


async def test_too_few_rows_are_refused_before_anything_is_sent(rig):
    with pytest.raises(TrainingFailure, match="has 9 rows; the vendor wants at least 10"):
        await rig.trainer().train(rig.job(train=9), rig.tell)
    assert rig.frontier.calls == []


async def test_keys_never_stand_in_an_error(rig):
    rig.frontier.fail_next(Fault.unauthorized)
    with pytest.raises(TrainingFailure) as caught:
        await rig.trainer().train(rig.job(), rig.tell)
    assert KEY not in str(caught.value)


# ---------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("training", "says"),
    [
        ({"rank": 8}, "rank"),
        ({"learning_rate": 1e-3}, "learning_rate"),
        ({"max_steps": 10}, "max_steps"),
        ({"quantization": "4bit"}, "quantization"),
        ({"balance": True}, "balance"),
        ({"early_stopping": 0}, "early_stopping"),
        ({"epochs": 51}, "epochs: the vendor takes at most 50"),
        ({"batch_size": 257}, "batch_size: the vendor takes at most 256"),
        ({"token_price": None}, "token_price: missing"),
    ],
)
def test_settings_that_the_vendor_does_not_have_are_refused_by_name(rig, training, says):
    with pytest.raises(InvalidConfig, match=f"local.training.{says}"):
        rig.trainer(**training)


def test_a_missing_key_is_an_error_at_the_start(rig, monkeypatch):
    monkeypatch.delenv("HOSTED_KEY")
    with pytest.raises(InvalidConfig, match="HOSTED_KEY"):
        rig.trainer()


def test_a_missing_package_names_the_extra(rig, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"apprentice\[servers\]"):
        rig.trainer()


async def test_the_bill_is_rounded_up(rig):
    made = await rig.trainer(token_price=Decimal("0.000001")).train(rig.job(), rig.tell)
    assert made.cost_nd == -(-3 * rig.jobs[0].tokens // 1000)


async def test_a_bill_that_the_vendor_does_not_state_is_bounded(rig, monkeypatch):
    shown = TuningJob.shown
    monkeypatch.setattr(TuningJob, "shown", lambda self, now: {**shown(self, now), "trained_tokens": None})
    made = await rig.trainer().train(rig.job(), rig.tell)
    (job,) = rig.jobs
    assert 3 * job.tokens * 1500 < made.cost_nd <= 3 * 4 * job.tokens * 1500


async def test_closing_twice_is_fine_and_nothing_is_trained_afterwards(rig):
    trainer = rig.trainer()
    await trainer.aclose()
    await trainer.aclose()
    with pytest.raises(TrainingFailure, match="closed"):
        await trainer.train(rig.job(), rig.tell)
    assert rig.frontier.calls == []
