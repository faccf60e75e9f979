"""What every remote model keeps to, whatever its format, against a simulated provider over real HTTP on loopback.

Only the pauses are replaced by a clock that jumps; requests and responses are real.
"""

import asyncio

import pytest
from remote_rig import OUTPUT, Rig, question

from apprentice.testing import Fault, FaultPlan
from apprentice.testing.dialect import RETRY_AFTER_S
from apprentice.testing.faults import RETRIED
from apprentice_actors.ports import RemoteFailure

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
        failure = await fail(rig, timeout_s=0.25)
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


async def until(condition) -> None:
    """Let the loop turn until ``condition`` holds."""
    for _ in range(100_000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("the condition never came to hold")
