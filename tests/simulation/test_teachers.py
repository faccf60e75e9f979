"""Several remote models: who is asked, what happens when one is down, and whose answers may teach."""

import pytest

from apprentice.errors import RemoteUnavailable
from apprentice.testing import Fault
from apprentice.testing.world import MODELS, Options, SimulatedWorld, Traffic, simulate
from apprentice_actors.policy.breaker import COOL_DOWN_S, FAILURES_MAX
from apprentice_events import vocabulary as v

COLD = {"confidence_thresholds": {"phase1_to_phase2": 10_000}}
"""Every request reaches a teacher."""


def events(world: SimulatedWorld, kind: type[v.Event]) -> list:
    world.memory.reopen()
    return [record.event() for record in world.memory.scan() if record.tag == kind.TAG]


def counts(world: SimulatedWorld) -> list[int]:
    return [len(frontier.calls) for frontier in world.frontiers]


async def nothing_reserved(runtime) -> None:
    await runtime.settled()
    assert runtime.report().money.reserved == "0.00"


def test_the_main_teacher_is_asked_and_the_next_one_when_it_is_down():
    async def program(world: SimulatedWorld) -> None:
        async with world.open() as runtime:
            await world.drive(runtime, Traffic(requests=3, settle=True))
            assert counts(world) == [3, 0]
            world.frontier.fail_next(Fault.unauthorized, 1)
            (asked,) = await world.drive(runtime, Traffic(requests=1, settle=True), begin=100)
            assert asked.error is None
            assert counts(world) == [4, 1]
            await nothing_reserved(runtime)
        first, second = events(world, v.RemoteCallIntended)[-2:]
        assert (first.attempt, first.model) == (1, MODELS[0])
        assert (second.attempt, second.model) == (2, MODELS[1])
        assert not events(world, v.RemoteFailed)[-1].final

    simulate(program, Options(teachers=2, task=COLD))


def test_a_teacher_that_keeps_failing_is_left_alone_and_then_probed():
    async def program(world: SimulatedWorld) -> None:
        async with world.open() as runtime:
            world.frontier.fail_next(Fault.unauthorized, FAILURES_MAX + 1)
            asked = await world.drive(runtime, Traffic(requests=FAILURES_MAX + 3, settle=True))
            assert all(one.error is None for one in asked)
            assert counts(world) == [FAILURES_MAX, FAILURES_MAX + 3]
            await world.clock.sleep(COOL_DOWN_S)
            await world.drive(runtime, Traffic(requests=2, settle=True), begin=100)
            assert counts(world)[0] == FAILURES_MAX + 1, "one probe, which failed"
            await world.clock.sleep(2 * COOL_DOWN_S)
            await world.drive(runtime, Traffic(requests=3, settle=True), begin=200)
            assert counts(world)[0] == FAILURES_MAX + 4, "the probe answered: the circuit is closed"
            await nothing_reserved(runtime)

    simulate(program, Options(teachers=2, task=COLD))


def test_with_every_circuit_open_the_refusal_is_quick_and_says_why():
    async def program(world: SimulatedWorld) -> None:
        async with world.open() as runtime:
            world.frontier.fail_next(Fault.unauthorized, 100)
            asked = await world.drive(runtime, Traffic(requests=FAILURES_MAX + 2, settle=True))
            assert len(world.frontier.calls) == FAILURES_MAX
            error = asked[-1].error
            assert isinstance(error, RemoteUnavailable)
            assert MODELS[0] in str(error)
            await nothing_reserved(runtime)

    simulate(program, Options(task=COLD))


def test_weights_spread_the_requests():
    async def program(world: SimulatedWorld) -> None:
        async with world.open() as runtime:
            await world.drive(runtime, Traffic(requests=300, burst=10))
        share = counts(world)[0] / 300
        assert 0.4 < share < 0.6
        assert sum(counts(world)) == 300

    simulate(program, Options(teachers=2, teacher={"weight": 1}, task=COLD))


def test_a_hedge_answers_in_time_and_both_calls_are_settled():
    async def program(world: SimulatedWorld) -> None:
        async with world.open() as runtime:
            world.frontier.fail_next(Fault.slow, 1)
            before = world.clock.monotonic()
            await runtime.submit("task_0", {"text": "ticket 1"})
            assert world.clock.monotonic() - before < 2.0, "the slow one takes five seconds"
            await nothing_reserved(runtime)
            assert counts(world) == [1, 1]
            settled = events(world, v.BudgetSettled)
            assert sorted(event.attempt for event in settled) == [1, 2]
            assert len(events(world, v.ResponseServed)) == len(events(world, v.ExampleCollected)) == 1
            assert [event.hedge for event in events(world, v.RemoteCallIntended)] == [False, True]
            await runtime.submit("task_0", {"text": "ticket 2"})
            await runtime.settled()
            assert counts(world) == [2, 1], "a call that answers in time is not hedged"

    simulate(program, Options(teachers=2, task=COLD, config={"remote": {"hedge_after_s": 1.0}}))


def test_a_failing_hedge_does_not_fail_the_request():
    async def program(world: SimulatedWorld) -> None:
        async with world.open() as runtime:
            world.frontiers[1].fail_next(Fault.unauthorized, 1)
            world.frontier.fail_next(Fault.slow, 1)
            await runtime.submit("task_0", {"text": "ticket 1"})
            await nothing_reserved(runtime)
            assert not events(world, v.RequestFailed)

    simulate(program, Options(teachers=2, task=COLD, config={"remote": {"hedge_after_s": 1.0}}))


def test_answers_of_a_provider_that_forbids_it_are_never_examples():
    async def program(world: SimulatedWorld) -> None:
        async with world.open() as runtime:
            await world.drive(runtime, Traffic(requests=80, settle=True))
            status = runtime.status("task_0")
            assert (status.examples, status.held_out, status.withheld) == (0, 0, 80)
            assert status.phase == "cold_start"
            assert "learns nothing" in status.alerts["licence"]
        assert len(events(world, v.ExampleWithheld)) == 80
        assert not world.trainer.jobs

    simulate(program, Options(teacher={"distillation": "disallowed"}))


def test_the_report_says_who_was_asked_what_it_cost_and_what_was_withheld():
    config = {"remote": {"distillation": "disallowed"}}

    async def program(world: SimulatedWorld) -> None:
        async with world.open() as runtime:
            world.frontier.fail_next(Fault.unauthorized, FAILURES_MAX)
            await world.drive(runtime, Traffic(requests=20, settle=True))
            main, other = runtime.status("task_0").teachers
            assert (main.licence, main.circuit, other.licence, other.circuit) == (
                "disallowed",
                "open",
                "allowed",
                "closed",
            )
            assert [main.calls, other.calls] == counts(world)
            assert (main.failures, main.answers, other.answers) == (FAILURES_MAX, main.withheld, 20 - main.withheld)
            assert [round(float(one.spent) * 1e9) for one in (main, other)] == [
                frontier.billed_nd for frontier in world.frontiers
            ]
            await world.clock.sleep(COOL_DOWN_S)
            await world.drive(runtime, Traffic(requests=5, settle=True), begin=100)
            status = runtime.status("task_0")
            assert status.withheld == sum(one.withheld for one in status.teachers) == 5
            assert status.teachers[0].circuit == "closed"
            money = sum(float(one.spent) for one in status.teachers)
            assert money == pytest.approx(float(status.money.spent))

    simulate(program, Options(teachers=2, task=COLD, config=config))


def test_an_undecided_licence_trains_under_an_alert_until_it_is_decided():
    async def program(world: SimulatedWorld) -> None:
        async with world.open() as runtime:
            await world.drive(runtime, Traffic(requests=60, settle=True))
            assert "distillation" in runtime.status("task_0").alerts["licence"]
            assert runtime.status("task_0").champion is not None

    simulate(program, Options(teacher={"distillation": "unknown"}))


def test_a_teacher_that_becomes_another_model_restarts_the_evidence():
    async def program(world: SimulatedWorld) -> None:
        async with world.open() as runtime:
            await world.drive(runtime, Traffic(requests=150, settle=True))
            assert runtime.status("task_0").phase == "steady_state"
            epoch = runtime.status("task_0").promise.epoch
            world.frontier.renamed = "claude-of-tomorrow"
            await world.drive(runtime, Traffic(requests=200), begin=1000)
            await runtime.settled()
            assert runtime.status("task_0").promise.epoch == epoch + 1
            restarted = events(world, v.EvidenceRestarted)[-1]
            assert "claude-of-tomorrow" in restarted.reason

    simulate(program, Options(config={"sampling": {"min_floor": 0.2}}))


@pytest.mark.parametrize("price", [0, 36])
def test_local_compute_and_training_are_costs_like_any_other(price):
    async def program(world: SimulatedWorld) -> None:
        async with world.open() as runtime:
            await world.drive(runtime, Traffic(requests=150, settle=True))
            money = runtime.status("task_0").money
            remote_nd = sum(event.amount_nd for event in events(world, v.BudgetSettled))
            local_nd = sum(event.cost_nd for event in events(world, v.LocalAnswered))
            training_nd = sum(event.cost_nd for event in events(world, v.AdapterTrained))
            assert (local_nd > 0, training_nd > 0) == (price > 0, price > 0)
            assert round(float(money.spent) * 1e9) == remote_nd + local_nd + training_nd

    simulate(program, Options(config={"local": {"price_per_hour": price}}))
