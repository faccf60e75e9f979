"""What every remote model keeps to, against a simulated provider: over real HTTP on loopback and in memory.

Only the pauses are replaced by a clock that jumps; requests and responses are real.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx
import pytest

from apprentice.remote import AnthropicModel, PriceTable, RateLimiter, Secret
from apprentice.testing import Fault, FaultPlan, Frontier, Reply, SeededRandomness
from apprentice.testing.faults import RETRIED
from apprentice.testing.dialect import RETRY_AFTER_S
from apprentice_actors.ports import Question, RemoteFailure, RemoteModel

MODEL = "claude-haiku-4-5-20251001"
PRICE = PriceTable.load().find("anthropic", MODEL)
SCHEMA = {
    "type": "object",
    "properties": {
        "category": {"type": "string", "enum": ["billing", "bug"]},
        "priority": {"type": "integer", "minimum": 1, "maximum": 5},
    },
    "required": ["category", "priority"],
}
OUTPUT = {"category": "billing", "priority": 2}
REJECTED = {
    Fault.spend_limit: "spend_limit",
    Fault.usage_limit: "spend_limit",
    Fault.billing: "spend_limit",
    Fault.bad_request: "bad_request",
    Fault.not_found: "bad_request",
    Fault.too_large: "bad_request",
    Fault.unauthorized: "auth",
    Fault.forbidden: "auth",
    Fault.final_server_error: "unavailable",
}
BILLED = {
    Fault.refusal: "refusal",
    Fault.max_tokens: "cut_off",
    Fault.context_window: "cut_off",
    Fault.paused: "invalid",
    Fault.not_json: "invalid",
    Fault.not_an_object: "invalid",
}
UNKNOWN = {Fault.cut_connection: "interrupted", Fault.cut_body: "interrupted", Fault.garbled: "invalid"}
ANSWERED = {Fault.slow, Fault.wrong_schema, Fault.duplicate}


def question(text: str = "I was charged twice") -> Question:
    return Question(
        task="classify",
        input={"text": text},
        description="Classify the ticket.",
        output_schema=SCHEMA,
        max_output_tokens=200,
    )


@dataclass
class JumpingClock:
    """Sleeping takes no time but moves the clock; those who sleep together wake together."""

    seconds: float = 1_000.0
    slept: list[float] = field(default_factory=list)

    def now_ns(self) -> int:
        return int((1_767_225_600 + self.seconds) * 1e9)

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        wake = self.seconds + seconds
        await asyncio.sleep(0)
        self.seconds = max(self.seconds, wake)


@dataclass
class Rig:
    model: RemoteModel
    frontier: Frontier
    clock: JumpingClock
    limiter: RateLimiter


@asynccontextmanager
async def anthropic_over_http(
    frontier: Frontier, clock: JumpingClock, limiter: RateLimiter
) -> AsyncIterator[RemoteModel]:
    async with frontier, httpx.AsyncClient(trust_env=False) as client:
        yield build(frontier.url, clock, limiter, client)


@asynccontextmanager
async def anthropic_in_memory(
    frontier: Frontier, clock: JumpingClock, limiter: RateLimiter
) -> AsyncIterator[RemoteModel]:
    async with httpx.AsyncClient(transport=frontier.transport()) as client:
        yield build("http://frontier.invalid", clock, limiter, client)


def build(url: str, clock: JumpingClock, limiter: RateLimiter, client: httpx.AsyncClient) -> RemoteModel:
    return AnthropicModel(
        MODEL,
        Secret("sk-contract-0123456789"),
        PRICE,
        limiter=limiter,
        clock=clock,
        randomness=SeededRandomness(1),
        base_url=url,
        max_attempts=4,
        client=client,
    )


@pytest.fixture(params=[anthropic_over_http, anthropic_in_memory], ids=["http", "memory"])
def open_rig(request):
    @asynccontextmanager
    async def opened(answer=lambda asked: OUTPUT, *, max_concurrent: int = 64, **options) -> AsyncIterator[Rig]:
        clock = JumpingClock()
        limiter = RateLimiter(clock, max_concurrent=max_concurrent)
        frontier = Frontier(answer, clock=clock, price=PRICE, **options)
        async with request.param(frontier, clock, limiter) as model:
            yield Rig(model, frontier, clock, limiter)

    return opened


async def fail(rig: Rig, timeout_s: float = 30.0) -> RemoteFailure:
    with pytest.raises(RemoteFailure) as caught:
        await rig.model.answer(question(), timeout_s=timeout_s)
    return caught.value


async def test_an_answer_is_parsed_counted_and_billed(open_rig):
    async with open_rig() as rig:
        answer = await rig.model.answer(question(), timeout_s=30)
        assert answer.output == OUTPUT
        assert (answer.model, answer.attempts) == (MODEL, 1)
        assert answer.usage == rig.frontier.calls[0].usage
        assert answer.cost_nd == rig.frontier.billed_nd > 0
        assert answer.cost_nd <= rig.model.quote_nd(question())
        assert rig.frontier.times_asked(question().input) == 1


async def test_the_model_is_told_exactly_what_the_caller_sent(open_rig):
    text = 'literal { braces } {0} {text!r} %s %(x)d \\n "quotes" ünïcode \u2028 {{double}}'
    async with open_rig() as rig:
        await rig.model.answer(question(text), timeout_s=30)
        assert rig.frontier.calls[0].input == {"text": text}


async def test_the_provider_and_the_model_have_names(open_rig):
    async with open_rig() as rig:
        assert (rig.model.provider, rig.model.model) == ("anthropic", MODEL)


def test_every_fault_has_its_place_in_this_suite():
    assert set(Fault) == {*RETRIED, *REJECTED, *BILLED, *UNKNOWN, *ANSWERED, Fault.hang}


@pytest.mark.parametrize("fault", sorted(RETRIED))
async def test_what_was_not_billed_is_tried_again(open_rig, fault):
    async with open_rig() as rig:
        rig.frontier.fail_next(fault)
        answer = await rig.model.answer(question(), timeout_s=30)
        assert (answer.output, answer.attempts) == (OUTPUT, 2)
        assert answer.cost_nd == rig.frontier.billed_nd
        assert rig.frontier.times_billed(question().input) == 1


@pytest.mark.parametrize("fault", sorted(RETRIED))
async def test_attempts_are_limited(open_rig, fault):
    async with open_rig() as rig:
        rig.frontier.fail_next(fault, 100)
        failure = await fail(rig, timeout_s=300)
        assert failure.kind == ("rate_limited" if "rate" in fault else "unavailable")
        assert (failure.cost_nd, len(rig.frontier.calls)) == (0, 4)


@pytest.mark.parametrize(("fault", "kind"), REJECTED.items())
async def test_what_no_retry_cures_is_not_tried_again(open_rig, fault, kind):
    async with open_rig() as rig:
        rig.frontier.fail_next(fault)
        failure = await fail(rig)
        assert (failure.kind, failure.cost_nd) == (kind, 0)
        assert len(rig.frontier.calls) == 1
        assert not rig.clock.slept


@pytest.mark.parametrize(("fault", "kind"), BILLED.items())
async def test_a_useless_answer_is_billed_by_its_usage(open_rig, fault, kind):
    async with open_rig() as rig:
        rig.frontier.fail_next(fault)
        failure = await fail(rig)
        assert failure.kind == kind
        assert failure.usage == rig.frontier.calls[0].usage is not None
        assert failure.cost_nd == rig.frontier.billed_nd > 0
        assert len(rig.frontier.calls) == 1


@pytest.mark.parametrize(("fault", "kind"), UNKNOWN.items())
async def test_what_may_have_been_billed_is_charged_in_full_and_not_repeated(open_rig, fault, kind):
    async with open_rig() as rig:
        rig.frontier.fail_next(fault)
        failure = await fail(rig)
        assert (failure.kind, failure.usage) == (kind, None)
        assert failure.cost_nd == rig.model.quote_nd(question()) >= rig.frontier.billed_nd > 0
        assert len(rig.frontier.calls) == 1


async def test_an_object_outside_the_schema_is_left_to_the_validation_gate(open_rig):
    async with open_rig() as rig:
        rig.frontier.fail_next(Fault.wrong_schema)
        answer = await rig.model.answer(question(), timeout_s=30)
        assert answer.output == {"unexpected_field": True}


async def test_the_deadline_holds_when_nothing_comes_back(open_rig):
    async with open_rig() as rig:
        rig.frontier.fail_next(Fault.hang)
        failure = await fail(rig, timeout_s=0.02)
        assert failure.kind == "timeout"
        assert failure.cost_nd == rig.model.quote_nd(question()) >= rig.frontier.billed_nd > 0
        assert len(rig.frontier.calls) == 1


async def test_the_servers_pause_is_kept(open_rig):
    async with open_rig() as rig:
        rig.frontier.fail_next(Fault.rate_limited)
        await rig.model.answer(question(), timeout_s=30)
        assert RETRY_AFTER_S <= sum(rig.clock.slept) <= RETRY_AFTER_S * 1.1


async def test_a_pause_beyond_the_deadline_is_not_waited_for(open_rig):
    async with open_rig() as rig:
        rig.frontier.fail_next(Fault.rate_limited)
        failure = await fail(rig, timeout_s=RETRY_AFTER_S * 0.9)
        assert failure.kind == "rate_limited"
        assert not rig.clock.slept


async def test_cancelling_ends_the_request(open_rig):
    async with open_rig() as rig:
        rig.frontier.fail_next(Fault.hang)
        asking = asyncio.create_task(rig.model.answer(question(), timeout_s=30))
        await until(lambda: rig.frontier.calls)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await until(lambda: rig.frontier.calls[0].abandoned)
        assert rig.limiter.in_flight == 0
        assert (await rig.model.answer(question("next"), timeout_s=30)).output == OUTPUT


async def test_fifty_at_once_are_each_answered_once(open_rig):
    peak = 0

    def answer(asked):
        nonlocal peak
        peak = max(peak, rig.limiter.in_flight)
        return {"category": "bug", "priority": int(asked["text"])}

    async with open_rig(answer, max_concurrent=8, latency=1.0) as rig:
        answers = await asyncio.gather(*(rig.model.answer(question(str(n)), timeout_s=600) for n in range(50)))
        assert [answer.output["priority"] for answer in answers] == list(range(50))
        assert peak == 8
        assert all(rig.frontier.times_asked({"text": str(n)}) == 1 for n in range(50))
        assert sum(answer.cost_nd for answer in answers) == rig.frontier.billed_nd


async def test_a_told_rate_limit_is_waited_for_not_run_into(open_rig):
    async with open_rig(max_concurrent=5, rate_limit=60) as rig:
        await asyncio.gather(*(rig.model.answer(question(str(n)), timeout_s=600) for n in range(150)))
        assert [call.status for call in rig.frontier.calls] == [200] * 150
        # 60 at once, then one per second.
        assert 80 <= rig.clock.seconds - 1_000 <= 110


async def test_under_random_faults_what_is_charged_is_never_less_than_what_is_billed(open_rig):
    plan = FaultPlan(probability=0.5, kinds=sorted(set(Fault) - {Fault.hang, Fault.slow}), seed=7)
    charged = 0
    async with open_rig(faults=plan) as rig:
        for n in range(60):
            try:
                charged += (await rig.model.answer(question(str(n)), timeout_s=60)).cost_nd
            except RemoteFailure as failure:
                charged += failure.cost_nd
        assert charged >= rig.frontier.billed_nd > 0
        assert max(rig.frontier.times_billed({"text": str(n)}) for n in range(60)) == 1


async def test_cache_reads_and_writes_have_their_own_prices(open_rig):
    reply = Reply(
        output=OUTPUT,
        input_tokens=10,
        output_tokens=5,
        cache_read_tokens=1_000,
        cache_write_tokens=300,
        cache_write_1h_tokens=100,
    )
    async with open_rig(lambda asked: reply) as rig:
        answer = await rig.model.answer(question(), timeout_s=30)
        assert (answer.usage.input_tokens, answer.usage.cache_read_tokens, answer.usage.cache_write_tokens) == (
            10,
            1000,
            300,
        )
        # Haiku 4.5 in nano-dollars per token: 1000 in, 5000 out, 100 read, 1250 written for 5 min, 2000 for 1 h.
        assert answer.cost_nd == 10 * 1000 + 5 * 5000 + 1000 * 100 + 200 * 1250 + 100 * 2000


async def until(condition) -> None:
    """Let the loop turn until ``condition`` holds."""
    for _ in range(100_000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("the condition never came to hold")
