"""Teachers that are asked some questions twice: what that costs, what it shows, and whom it keeps waiting."""

import random

import pytest

from apprentice.testing.faults import Fault
from apprentice.testing.folding import refold
from apprentice.testing.world import CATEGORIES, Options, SimulatedWorld, Traffic, simulate, truth
from apprentice_actors.repeats import REPEATS_MIN, self_agreement
from apprentice_events import vocabulary as v
from apprentice_events.teachers_state import TeachersState

COLD = {"confidence_thresholds": {"phase1_to_phase2": 10_000}, "max_output_tokens": 64}
"""Every request reaches the teacher."""


def twice(share: float, **more) -> Options:
    sampling = {"sampling": {"self_agreement_rate": share, **more.pop("sampling", {})}}
    return Options(config={**sampling, **more.pop("config", {})}, task={**COLD, **more.pop("task", {})}, **more)


def events(world: SimulatedWorld, *kinds: type[v.Event]) -> list:
    world.memory.reopen()
    found = [record.event() for record in world.memory.scan()]
    return [event for event in found if isinstance(event, kinds)]


async def nothing_left(world: SimulatedWorld, runtime) -> None:
    """Every call is settled, no request is in flight, and the log folds to the state that was lived."""
    await runtime.settled()
    assert runtime.report().money.reserved == "0.00"
    assert runtime._state("task_0").flights == {}
    states, spend = refold(world.memory.scan())
    assert states["task_0"] == runtime._state("task_0")
    assert spend.of("task_0").spent_nd >= world.frontier.billed_nd


def unsteady(share: float, seed: int = 0):
    """A teacher that gives any other answer in a share of its calls."""
    chance = random.Random(seed)

    def teaches(given):
        right = CATEGORIES.index(truth(given)["category"])
        return {"category": CATEGORIES[(right + (chance.random() < share)) % len(CATEGORIES)]}

    return teaches


@pytest.mark.parametrize("burst", [1, 20])
def test_the_configured_share_is_asked_twice_and_paid_as_announced(burst):
    async def program(world: SimulatedWorld) -> None:
        async with world.open() as runtime:
            asked = await world.drive(runtime)
            assert all(one.output == truth(one.given) for one in asked)
            await nothing_left(world, runtime)
            found = self_agreement(runtime._state("task_0"), runtime._supervisors["task_0"].spec.settings)
            assert found is not None
            assert (found.value, found.upper) == (1.0, 1.0)
        intents = [event for event in events(world, v.RemoteCallIntended) if event.purpose == "repeat"]
        measured = events(world, v.SelfAgreementMeasured)
        assert 40 <= len(measured) == len(intents) <= 80
        assert len(world.frontier.calls) == 300 + len(measured)
        order = events(world, v.BudgetReserved, v.RemoteCallIntended, v.RemoteAnswered)
        for intent in intents:
            own = [type(event) for event in order if (event.request, event.attempt) == (intent.request, intent.attempt)]
            assert own == [v.BudgetReserved, v.RemoteCallIntended, v.RemoteAnswered]

    simulate(program, twice(0.2, traffic=Traffic(requests=300, burst=burst)))


def test_by_default_nobody_is_asked_twice():
    async def program(world: SimulatedWorld) -> None:
        async with world.open() as runtime:
            await world.drive(runtime, Traffic(requests=30, settle=True))
        assert len(world.frontier.calls) == 30

    simulate(program, Options(task=COLD))


def test_the_caller_does_not_wait_for_the_second_answer_and_gets_the_first():
    async def program(world: SimulatedWorld) -> None:
        answers = iter(CATEGORIES)
        world.teaches = lambda given: {"category": next(answers)}
        async with world.open() as runtime:
            begun = world.clock.monotonic()
            result = await runtime.submit("task_0", {"text": "a"})
            assert result.output == {"category": CATEGORIES[0]}
            assert world.clock.monotonic() - begun < 0.3
            await nothing_left(world, runtime)
            assert len(world.frontier.calls) == 2
            story = await runtime.explain(result.request_id)
            assert any("asked a second time" in step.says for step in story.steps)
        (measured,) = events(world, v.SelfAgreementMeasured)
        assert measured.score == 0.0
        (example,) = events(world, v.ExampleCollected)
        assert example.output == events(world, v.RemoteAnswered)[0].output

    simulate(program, twice(1.0))


@pytest.mark.parametrize(("agreement", "warned"), [(0.9, True), (0.6, False)])
def test_a_guarantee_above_what_the_teacher_holds_to_itself_is_an_alert(agreement, warned):
    async def program(world: SimulatedWorld) -> None:
        world.teaches = unsteady(0.25)
        async with world.open() as runtime:
            await world.drive(runtime)
            status = runtime.status("task_0")
            assert ("unreachable" in status.alerts) is warned
            raised = [alert for alert in world.sink.raised_alerts if alert[1] == "unreachable"]
            assert len(raised) == warned
            assert (status.promise.unreachable is not None) is warned
            assert status.self_agreement is not None
            assert status.asked_twice > REPEATS_MIN
            (last,) = await world.drive(runtime, Traffic(requests=1, settle=True), begin=1000)
            assert last.request_id is not None
            assert ("out of reach" in (await runtime.explain(last.request_id)).promise) is warned
        agreements = [event.score for event in events(world, v.SelfAgreementMeasured)]
        assert 0.4 < sum(agreements) / len(agreements) < 0.8

    task = {"guarantee": {"agreement": agreement}}
    task["confidence_thresholds"] = {**COLD["confidence_thresholds"], "phase2_to_phase3": 0.55}
    task["confidence_thresholds"] |= {"coaching_trigger": 0.4, "emergency_threshold": 0.2}
    simulate(program, twice(0.5, task=task, traffic=Traffic(requests=200, burst=10)))


@pytest.mark.parametrize(
    ("fault", "score"), [(Fault.refusal, 0.0), (Fault.wrong_schema, 0.0), (Fault.unauthorized, None), ("broke", None)]
)
def test_a_second_answer_that_does_not_come_counts_as_what_it_is(fault, score):
    """A refusal says something about the teacher's steadiness, an outage or an empty purse does not."""

    async def program(world: SimulatedWorld) -> None:
        def teaches(given):
            if fault != "broke":
                world.frontier.fail_next(fault, 1)
            return truth(given)

        world.teaches = teaches
        async with world.open() as runtime:
            result = await runtime.submit("task_0", {"text": "a"})
            assert result.output == truth({"text": "a"})
            await nothing_left(world, runtime)
            assert runtime.status("task_0").failed == 0
        measured, missed = events(world, v.SelfAgreementMeasured), events(world, v.SelfAgreementMissed)
        assert [event.score for event in measured] == ([] if score is None else [score])
        assert len(missed) == (score is None)

    budget = {"budget": {"daily": "0.0005"}} if fault == "broke" else {}
    simulate(program, twice(1.0, config=budget, reserved_nd=400_000))


def test_an_evaluator_that_fails_on_the_second_answer_keeps_nothing_open():
    async def program(world: SimulatedWorld) -> None:
        async with world.open() as runtime:

            async def broken(*args: object) -> float:
                raise ValueError("no score")

            object.__setattr__(runtime.evaluator("task_0"), "score", broken)
            await world.drive(runtime, Traffic(requests=2))
            await nothing_left(world, runtime)
        assert len(events(world, v.SelfAgreementMissed)) == 2

    simulate(program, twice(1.0))


def test_a_death_between_the_two_answers_charges_the_second_and_closes_the_request():
    async def program(world: SimulatedWorld) -> None:
        async with world.open() as runtime:
            await runtime.submit("task_0", {"text": "a"})
            await world.clock.sleep(0.1)  # the second call is out
            world.log.fail_next("conflict")
            await world.clock.sleep(1.0)
        async with world.open() as runtime:
            await nothing_left(world, runtime)
        assert events(world, v.SelfAgreementMeasured) == []
        (closed,) = events(world, v.RequestRecovered)
        charged = [event for event in events(world, v.BudgetSettled) if event.attempt == 2]
        assert [event.amount_nd for event in charged] == [closed.charged_nd]

    simulate(program, twice(1.0))


def test_repeats_go_on_in_steady_state_and_count_by_the_chance_of_their_first_answer():
    async def program(world: SimulatedWorld) -> None:
        async with world.open() as runtime:
            await world.drive(runtime)
            status = runtime.status("task_0")
            assert status.phase == "steady_state"
            assert status.served_local > 200
            await nothing_left(world, runtime)
            found = self_agreement(runtime._state("task_0"), runtime._supervisors["task_0"].spec.settings)
            assert found is not None
            assert found.count > REPEATS_MIN
        chances = {event.audit_probability for event in events(world, v.SelfAgreementMeasured)}
        assert 1.0 in chances
        assert min(chances) < 0.5

    task = {"confidence_thresholds": {"phase1_to_phase2": 50}}
    simulate(program, twice(0.5, task=task, sampling={"min_floor": 0.1}, traffic=Traffic(requests=600, settle=True)))


def test_a_teacher_that_answers_under_another_name_begins_anew():
    teachers = TeachersState()
    teachers.answered("a/b", "b-1")
    teachers.repeated(v.SelfAgreementMeasured(request="r", teacher="a/b", score=0.5, audit_probability=0.1))
    teachers.answered("a/b", "b-1")
    assert (teachers.of("a/b").repeats.count, teachers.of("a/b").repeats.weight) == (1, 10.0)
    teachers.answered("a/b", "b-2")
    assert teachers.of("a/b").repeats.count == 0
