"""What fails is contained, said clearly, and mended by the next life."""

import asyncio

import msgspec
import pytest

from apprentice.errors import (
    ApprenticeError,
    DeadlineExceeded,
    LogPoisoned,
    Overloaded,
    RemoteRefused,
    RemoteUnavailable,
    TaskIsolated,
)
from apprentice.testing.faults import Fault
from apprentice.testing.folding import refold
from apprentice.testing.world import Options, Traffic, simulate, truth
from apprentice_events import replay
from apprentice_events import vocabulary as v

TASK = "task/task_0"


async def check_whole(world, runtime, asked) -> None:
    """All that was acknowledged is there, live equals folded, the chain holds, no reservation is open."""
    await runtime.settled()
    served = {
        event.request: event.output
        for event in (record.event() for record in world.memory.scan())
        if isinstance(event, v.ResponseServed)
    }
    for one in asked:
        if one.request_id is not None:
            assert one.request_id in served
    states, spend = refold(world.memory.scan())
    for name, state in states.items():
        assert replay.diff(state, runtime._state(name)) == []
    assert replay.diff(spend, runtime._spend) == []
    assert spend.reservations == {}
    assert world.frontier.billed_nd <= spend.spent_since(0)
    assert replay.verify(world.memory).ok


@pytest.mark.parametrize("fault", ["conflict", "lost", "doubtful"])
@pytest.mark.parametrize("seed", range(4))
def test_a_failed_append_costs_a_life_and_nothing_that_was_acknowledged(fault, seed):
    async def program(world):
        world.log.stream = TASK
        async with world.open() as runtime:
            world.log.faults = {world.log.appends + offset: fault for offset in (3 + seed, 40 + 7 * seed, 150)}
            asked = await world.drive(runtime)
            refused = [one.error for one in asked if one.error is not None]
            assert refused
            assert all(isinstance(error, TaskIsolated | LogPoisoned) for error in refused)
            assert runtime._scope.statistics()[TASK].restarts >= 2
            assert runtime._scope.statistics()[TASK].state == "running"
            await check_whole(world, runtime, asked)

    traffic = Traffic(requests=200, burst=12, gap_s=1.0, repeated=0.1)
    simulate(program, Options(seed=seed, traffic=traffic, latency_s=(0.05, 0.5)))


def test_a_call_that_ends_after_its_supervisor_died_is_passed_over():
    """The outcome waits in the mailbox for the next life, which has closed the request as unknown."""

    async def program(world):
        async with world.open() as runtime:
            first = asyncio.create_task(runtime.submit("task_0", {"text": "1"}))
            await world.clock.sleep(0.1)
            world.log.stream = TASK
            world.log.fail_next("lost")
            second = asyncio.create_task(runtime.submit("task_0", {"text": "2"}))
            outcomes = await asyncio.gather(first, second, return_exceptions=True)
            assert all(isinstance(one, ApprenticeError) for one in outcomes)
            await world.clock.sleep(5.0)
            assert runtime._scope.statistics()[TASK].restarts == 1
            assert (await runtime.submit("task_0", {"text": "3"})).output == truth({"text": "3"})
            await check_whole(world, runtime, [])
            assert runtime.status("task_0").failed == 1  # the first; of the second nothing is known

    simulate(program)


def test_a_task_that_keeps_failing_is_isolated_and_another_goes_on():
    async def program(world):
        async with world.open() as runtime:
            world.log.stream = TASK
            world.log.fail_next("lost", 1000)
            errors = []
            for number in range(4):
                with pytest.raises(ApprenticeError) as caught:
                    await runtime.submit("task_0", {"text": f"{number}"})
                errors.append(caught.value)
                await runtime.submit("task_1", {"text": f"{number}"})
            assert "a simulated failure" in str(errors[-1])
            assert runtime._scope.statistics()[TASK].state == "isolated"
            await runtime.settled()
            assert ("task_0", "isolated") in [(task, alert) for task, alert, _ in world.sink.raised_alerts]
        world.log.faults.clear()
        async with world.open() as runtime:
            await runtime.submit("task_0", {"text": "again"})

    simulate(program, Options(tasks=2))


def test_a_poisoned_log_refuses_everything_with_a_clear_error():
    async def program(world):
        async with world.open() as runtime:
            await runtime.submit("task_0", {"text": "1"})
            world.log.fail_next("poisoned")
            for number in range(6):
                with pytest.raises((LogPoisoned, TaskIsolated)) as caught:
                    await runtime.submit("task_0", {"text": f"{number}"})
                await world.clock.sleep(0.5)
            assert isinstance(caught.value, LogPoisoned)
        world.log.poisoned = False
        async with world.open() as runtime:
            await runtime.submit("task_0", {"text": "2"})

    simulate(program)


def test_opening_on_a_log_that_cannot_be_written_says_so():
    async def program(world):
        world.log.stream = TASK
        world.log.fail_next("lost", 100)
        with pytest.raises((LogPoisoned, TaskIsolated), match="a simulated failure"):
            await world.open()

    simulate(program)


def test_a_task_that_is_isolated_does_not_hold_up_closing():
    async def program(world):
        runtime = await world.open()
        world.log.stream = TASK
        world.log.fail_next("lost", 1000)
        for number in range(4):
            with pytest.raises(ApprenticeError):
                await runtime.submit("task_0", {"text": f"{number}"})
        before = world.clock.monotonic()
        await runtime.close()
        assert world.clock.monotonic() - before < 1.0

    simulate(program)


# ---------------------------------------------------------------- the models


@pytest.mark.parametrize(("fallback", "answered"), [("reject", False), ("local", True)])
def test_with_the_remote_down_the_configuration_decides(fallback, answered):
    async def program(world):
        async with world.open() as runtime:
            world.frontier.fail_next(Fault.unauthorized)
            with pytest.raises(RemoteUnavailable):  # in the cold start there is nobody else to ask
                await runtime.submit("task_0", {"text": "cold"})
            await world.drive(runtime, Traffic(requests=55, settle=True))
            assert runtime.status("task_0").phase == "reinforcement"
            world.frontier.fail_next(Fault.unavailable, 100_000)
            asked = await world.drive(runtime, Traffic(requests=10, settle=True), begin=1000)
            if answered:
                assert [one.output for one in asked] == [truth(one.given) for one in asked]
                assert runtime.status("task_0").degraded == 10
            else:
                assert {type(one.error) for one in asked} == {RemoteUnavailable}
            assert runtime._spend.reservations == {}

    simulate(program, Options(task={"on_remote_down": fallback}))


def test_with_the_local_model_down_in_steady_state_the_remote_answers():
    async def program(world):
        async with world.open() as runtime:
            await world.drive(runtime, Traffic(requests=140, settle=True))
            assert runtime.status("task_0").phase == "steady_state"
            world.local.down = True
            asked = await world.drive(runtime, Traffic(requests=30, settle=True), begin=1000)
            assert [one.output for one in asked] == [truth(one.given) for one in asked]
            assert "uncertified" in runtime.status("task_0").alerts
            world.local.down = False
            await world.drive(runtime, Traffic(requests=100, settle=True), begin=2000)
            assert "uncertified" not in runtime.status("task_0").alerts

    simulate(program)


def test_a_local_model_that_hangs_leaves_the_remote_time_to_answer():
    async def program(world):
        async with world.open() as runtime:
            await world.drive(runtime, Traffic(requests=140, settle=True))
            world.local._latency_s = 10_000.0
            result = await runtime.submit("task_0", {"text": "hanging"}, timeout_s=10.0)
            assert result.output == truth({"text": "hanging"})
            await runtime.settled()

    simulate(program)


def test_a_probability_that_is_none_is_a_failure_of_the_local_model():
    async def program(world):
        async with world.open() as runtime:
            await world.drive(runtime, Traffic(requests=60, settle=True))
            answer = world.local.answer

            async def confused(question, version):
                return msgspec.structs.replace(await answer(question, version), p_agree=float("nan"))

            world.local.answer = confused
            asked = await world.drive(runtime, Traffic(requests=10, settle=True), begin=1000)
            assert [one.error for one in asked] == [None] * 10
            assert runtime._scope.statistics()[TASK].restarts == 0
            assert runtime.status("task_0").shadow_failed == 10

    simulate(program)


@pytest.mark.parametrize("fault", [Fault.refusal, Fault.not_json, Fault.wrong_schema, Fault.max_tokens, Fault.garbled])
def test_an_answer_that_is_none_is_refused_and_paid_for(fault):
    async def program(world):
        async with world.open() as runtime:
            world.frontier.fail_next(fault)
            with pytest.raises(RemoteRefused):
                await runtime.submit("task_0", {"text": "1"})
            await runtime.settled()
            assert 0 < world.frontier.billed_nd <= runtime._spend.spent_since(0)

    simulate(program)


def test_a_deadline_is_kept_and_the_call_charged():
    async def program(world):
        async with world.open() as runtime:
            world.frontier.fail_next(Fault.slow)
            before = world.clock.monotonic()
            with pytest.raises(DeadlineExceeded):
                await runtime.submit("task_0", {"text": "1"}, timeout_s=2.0)
            assert world.clock.monotonic() - before == pytest.approx(2.0, abs=0.01)
            await runtime.settled()
            assert world.frontier.billed_nd <= runtime._spend.spent_since(0)

    simulate(program)


def test_more_than_max_in_flight_is_overload():
    async def program(world):
        async with world.open() as runtime:
            asked = await world.drive(runtime)
            assert [type(one.error) for one in asked].count(Overloaded) == 30
            assert "10 requests in flight" in str(asked[-1].error)

    simulate(program, Options(traffic=Traffic(requests=40, burst=40), task={"max_in_flight": 10}))


def test_an_alert_sink_that_fails_touches_no_request():
    async def program(world):
        async def broken(*args):
            raise OSError("the webhook is gone")

        world.sink.raised = world.sink.cleared = broken
        async with world.open() as runtime:
            asked = await world.drive(runtime)
            assert [one.error for one in asked if one.error] == []
            assert runtime.status("task_0").alerts != {}
            assert runtime._scope.statistics()["herald"].restarts == 0

    options = Options(
        traffic=Traffic(requests=200, settle=True),
        outcomes=("failing",),
        config={"local": {"fine_tune_batch_size": 20}},
    )
    simulate(program, options)


def test_closing_in_the_middle_of_a_training_is_quick_and_the_training_is_tried_again():
    async def program(world):
        async with world.open() as runtime:
            await world.drive(runtime, Traffic(requests=50))
            await world.clock.sleep(1.0)
            assert runtime.status("task_0").training is not None
            before = world.clock.monotonic()
        assert world.clock.monotonic() - before < 1.0
        world.memory.reopen()
        triggered = [one for one in world.memory.scan() if one.tag == v.TrainingTriggered.TAG]
        assert len(triggered) == 1
        async with world.open() as runtime:
            await runtime.settled()
            status = runtime.status("task_0")
            assert status.champion == "task_0@v2"
            assert [(one.name, one.status) for one in status.versions] == [
                ("task_0@v1", "rejected"),
                ("task_0@v2", "champion"),
            ]

    simulate(program, Options(outcomes=("slow",)))
