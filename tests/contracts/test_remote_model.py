"""What every remote model keeps to, whatever its format, against a simulated provider over real HTTP on loopback.

Only the pauses are replaced by a clock that jumps; requests and responses are real.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from math import ceil
from typing import Any

import httpx
import pytest

from apprentice.config import ProviderConfig
from apprentice.remote import Price, PriceTable, RateLimiter, Rates
from apprentice.remote.providers import PROVIDERS
from apprentice.testing import Fault, FaultPlan, Frontier, Reply, SeededRandomness
from apprentice.testing.dialect import RETRY_AFTER_S
from apprentice.testing.faults import RETRIED
from apprentice_actors.ports import Question, RemoteFailure, RemoteModel
from apprentice_events.vocabulary import TokenUsage

KEY_VARIABLE = "CONTRACT_TEST_KEY"
TABLE = PriceTable.load()
OWN_PRICE = Rates(**{name: Decimal(n) for n, name in enumerate(Rates.__struct_fields__, 2)})


@dataclass(frozen=True)
class Case:
    """A provider of the configuration, and what its format can and cannot tell."""

    name: str
    provider: str
    model: str
    path: str = ""
    """The path of the base URL."""
    options: dict[str, Any] = field(default_factory=dict)
    in_memory: bool = False
    tells_limits: bool = True
    tells_writes: bool = True
    tells_retention: bool = False

    @property
    def price(self) -> Price:
        found = TABLE.find(self.provider, self.model)
        return found or Price(
            provider=self.provider, model=self.model, rates=OWN_PRICE, checked="2026-11-20", source="test"
        )


CLAUDE = "claude-haiku-4-5-20251001"
CASES = [
    Case("anthropic", "anthropic", CLAUDE, tells_retention=True),
    Case("memory", "anthropic", CLAUDE, in_memory=True, tells_retention=True),
    Case("openai", "openai", "gpt-5-mini", "/v1"),
    Case("responses", "openai", "gpt-5-mini", "/v1", {"api": "responses"}, tells_retention=True),
    Case("google", "google", "gemini-2.5-flash", tells_limits=False, tells_writes=False),
    Case("azure", "azure", "gpt-4.1", options={"deployment": "mine"}),
    Case("azure-path", "azure", "gpt-4.1", "/openai/v1/"),
    Case("azure-older", "azure", "gpt-4.1", options={"deployment": "mine", "api_version": "2024-10-21"}),
    Case("azure-responses", "azure", "gpt-4.1", options={"api": "responses"}, tells_retention=True),
    Case("openrouter", "openrouter", "meta/llama", "/api/v1"),
    Case("compatible", "openai_compatible", "my-model", "/v1/"),
]
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


def build(case: Case, url: str, clock: JumpingClock, limiter: RateLimiter, client: httpx.AsyncClient) -> RemoteModel:
    config = ProviderConfig(
        provider=case.provider,
        model=case.model,
        base_url=url + case.path,
        api_key_env=KEY_VARIABLE,
        max_attempts=4,
        **case.options,
    )
    make = PROVIDERS[case.provider]
    return make(config, case.price, clock, SeededRandomness(1), limiter=limiter, client=client)


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def case(request, monkeypatch) -> Case:
    monkeypatch.setenv(KEY_VARIABLE, "sk-contract-0123456789")
    return request.param


@pytest.fixture
def open_rig(case):
    @asynccontextmanager
    async def opened(answer=lambda asked: OUTPUT, *, max_concurrent: int = 64, **options) -> AsyncIterator[Rig]:
        clock = JumpingClock()
        limiter = RateLimiter(clock, max_concurrent=max_concurrent)
        frontier = Frontier(answer, clock=clock, price=case.price, api_key="sk-contract-0123456789", **options)
        if case.in_memory:
            async with httpx.AsyncClient(transport=frontier.transport()) as client:
                yield Rig(build(case, "http://frontier.invalid", clock, limiter, client), frontier, clock, limiter)
        else:
            async with frontier, httpx.AsyncClient(trust_env=False) as client:
                yield Rig(build(case, frontier.url, clock, limiter, client), frontier, clock, limiter)

    return opened


async def fail(rig: Rig, timeout_s: float = 30.0) -> RemoteFailure:
    with pytest.raises(RemoteFailure) as caught:
        await rig.model.answer(question(), timeout_s=timeout_s)
    return caught.value


async def test_an_answer_is_parsed_counted_and_billed(open_rig, case):
    async with open_rig() as rig:
        answer = await rig.model.answer(question(), timeout_s=30)
        assert answer.output == OUTPUT
        assert (answer.model, answer.attempts) == (case.options.get("deployment", case.model), 1)
        assert answer.usage == rig.frontier.calls[0].usage
        assert answer.cost_nd == rig.frontier.billed_nd > 0
        assert answer.cost_nd <= rig.model.quote_nd(question())
        assert rig.frontier.times_asked(question().input) == 1


async def test_the_model_is_told_exactly_what_the_caller_sent(open_rig):
    text = 'literal { braces } {0} {text!r} %s %(x)d \\n "quotes" ünïcode \u2028 {{double}}'
    async with open_rig() as rig:
        await rig.model.answer(question(text), timeout_s=30)
        assert rig.frontier.calls[0].input == {"text": text}


async def test_the_provider_and_the_model_have_names(open_rig, case):
    async with open_rig() as rig:
        assert (rig.model.provider, rig.model.model) == (case.provider, case.model)


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


async def test_a_told_rate_limit_is_waited_for_not_run_into(open_rig, case):
    if not case.tells_limits:
        pytest.skip("the format does not tell limits")
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


async def test_cache_reads_and_writes_have_their_own_prices(open_rig, case):
    reply = Reply(
        output=OUTPUT,
        input_tokens=10,
        output_tokens=5,
        cache_read_tokens=1_000,
        cache_write_tokens=300,
        cache_write_1h_tokens=100,
        reasoning_tokens=2,
    )
    async with open_rig(lambda asked: reply) as rig:
        answer = await rig.model.answer(question(), timeout_s=30)
    written, long = (300 if case.tells_writes else 0), (100 if case.tells_retention else 0)
    assert answer.usage == TokenUsage(
        input_tokens=310 - written,
        output_tokens=5,
        cache_read_tokens=1_000,
        cache_write_tokens=written,
        reasoning_tokens=2,
    )
    rates = case.price.rates
    exact = (310 - written) * rates.input + 5 * rates.output + 1_000 * rates.cache_read
    exact += (written - long) * rates.cache_write_5m + long * rates.cache_write_1h
    assert answer.cost_nd == ceil(exact * 1_000)


async def test_an_answer_delivered_twice_is_never_taken_for_the_next_one(open_rig):
    async with open_rig(lambda asked: {"category": "bug", "priority": int(asked["text"])}) as rig:
        rig.frontier.fail_next(Fault.duplicate)
        charged, given = 0, []
        for n in range(1, 5):
            try:
                answer = await rig.model.answer(question(str(n)), timeout_s=30)
                charged += answer.cost_nd
                given.append(answer.output["priority"])
            except RemoteFailure as failure:
                charged += failure.cost_nd
                given.append(failure.kind)
        assert given in ([1, 2, 3, 4], [1, "interrupted", 3, 4])
        assert charged >= rig.frontier.billed_nd


async def test_the_same_question_again_may_have_the_same_answer(open_rig):
    async with open_rig() as rig:
        rig.frontier.fail_next(Fault.duplicate)
        answers = [await rig.model.answer(question(), timeout_s=30) for _ in range(3)]
        assert [answer.output for answer in answers] == [OUTPUT] * 3
        assert (await rig.model.answer(question("other"), timeout_s=30)).output == OUTPUT


async def test_a_field_that_may_be_left_out_may_come_as_null(open_rig):
    schema = {**SCHEMA, "properties": {**SCHEMA["properties"], "note": {"type": "string"}}}
    asked = Question(task="classify", input={}, output_schema=schema)
    async with open_rig(lambda asked: {**OUTPUT, "note": None}) as rig:
        assert (await rig.model.answer(asked, timeout_s=30)).output == OUTPUT


async def test_a_schema_that_cannot_be_enforced_is_not_sent_as_a_rule(open_rig):
    free = {"type": "object", "additionalProperties": {"type": "integer"}}
    async with open_rig(lambda asked: {"a": 1}) as rig:
        answer = await rig.model.answer(Question(task="t", input={}, output_schema=free), timeout_s=30)
        assert answer.output == {"a": 1}


async def test_nested_optional_and_constant_fields_pass_the_providers_checks(open_rig):
    inner = {"type": "object", "properties": {"kind": {"const": "a"}, "size": {"type": ["integer", "null"]}}}
    schema = {"type": "object", "properties": {"items": {"type": "array", "items": inner}}, "required": ["items"]}
    output = {"items": [{"kind": "a", "size": None}]}
    async with open_rig(lambda asked: output) as rig:
        answer = await rig.model.answer(Question(task="t", input={}, output_schema=schema), timeout_s=30)
        assert answer.output == output


@pytest.mark.parametrize(
    "image",
    ["data:image/png;base64,AAAA", "https://pictures.example/a.png", {"media_type": "image/jpeg", "data": "AAAA"}],
)
async def test_images_travel_beside_the_text_and_are_set_aside_for(open_rig, image):
    text = Question(task="t", input={"pages": [{"scan": "none"}], "text": "x"}, image_fields=())
    asked = Question(task="t", input={"pages": [{"scan": image}], "text": "x"}, image_fields=("pages[].scan", "gone"))
    async with open_rig() as rig:
        assert (await rig.model.answer(asked, timeout_s=30)).output == OUTPUT
        assert rig.frontier.calls[0].images == 1
        assert rig.frontier.calls[0].input == {"pages": [{"scan": "(image 1)"}], "text": "x"}
        assert rig.model.quote_nd(asked) > rig.model.quote_nd(text) + thousand_tokens_nd(rig)


def thousand_tokens_nd(rig: Rig) -> int:
    """What a thousand tokens of input cost: any image may count that many."""
    return rig.model.price.bound_nd(1_000, 0)


async def test_what_is_no_image_is_refused_without_being_quoted(open_rig):
    async with open_rig() as rig:
        with pytest.raises(RemoteFailure, match="photo is no image") as caught:
            await rig.model.answer(
                Question(task="t", input={"photo": "private"}, image_fields=("photo",)), timeout_s=30
            )
        assert (caught.value.kind, caught.value.cost_nd, rig.frontier.calls) == ("bad_request", 0, [])
        assert "private" not in str(caught.value)


TOOL = {
    "name": "refund",
    "description": "Pay back.",
    "parameters": {"type": "object", "properties": {"amount": {"type": "number"}}, "required": ["amount"]},
}
CALLS = {"tool_calls": [{"name": "refund", "arguments": {"amount": 2.5}}]}


@pytest.mark.parametrize("output", [CALLS, {"content": "There is nothing to pay back."}])
async def test_with_tools_the_answer_is_calls_or_text(open_rig, output):
    asked = Question(task="t", input={"text": "x"}, tools=(TOOL,), output_schema=SCHEMA)
    async with open_rig(lambda asked: output) as rig:
        assert (await rig.model.answer(asked, timeout_s=30)).output == output


async def test_a_tool_that_was_not_offered_is_no_answer(open_rig):
    asked = Question(task="t", input={"text": "x"}, tools=(TOOL,))
    unknown = {"tool_calls": [{"name": "delete_everything", "arguments": {}}]}
    async with open_rig(lambda asked: unknown) as rig:
        with pytest.raises(RemoteFailure, match="not offered") as caught:
            await rig.model.answer(asked, timeout_s=30)
        assert (caught.value.kind, caught.value.cost_nd) == ("invalid", rig.frontier.billed_nd)


@pytest.mark.parametrize("tier", ["flex", "priority", "default", "never-heard-of"])
async def test_the_tier_that_answered_decides_the_price(open_rig, case, tier):
    reply = Reply(output=OUTPUT, input_tokens=1_000, output_tokens=100, service_tier=tier)
    async with open_rig(lambda asked: reply) as rig:
        answer = await rig.model.answer(question(), timeout_s=30)
        assert answer.cost_nd == rig.frontier.billed_nd <= rig.model.quote_nd(question()) * 100
    standard = [case.price.rates]
    known = {"default": standard, **{name: [each.rates] for name, each in case.price.tiers.items()}}
    possible = known.get(tier, standard + [each.rates for each in case.price.tiers.values()])
    assert answer.cost_nd == max(ceil((1_000 * rates.input + 100 * rates.output) * 1_000) for rates in possible)


async def until(condition) -> None:
    """Let the loop turn until ``condition`` holds."""
    for _ in range(100_000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("the condition never came to hold")
