"""The public face of a runtime: what it takes, what it refuses, what it tells."""

import asyncio

import msgspec
import pytest

from apprentice.errors import (
    InvalidInput,
    Overloaded,
    UnknownRequest,
    UnknownTask,
)
from apprentice.testing.world import Options, Traffic, simulate, truth
from apprentice_events import vocabulary as v


def recorded(world, kind):
    return [event for event in (one.event() for one in world.memory.scan()) if isinstance(event, kind)]


def test_an_unknown_task_is_named_with_the_known_ones():
    async def program(world):
        async with world.open() as runtime:
            with pytest.raises(UnknownTask, match="'sort'; the configuration has: task_0"):
                await runtime.submit("sort", {"text": "1"})
            with pytest.raises(UnknownTask):
                runtime.status("sort")

    simulate(program)


@pytest.mark.parametrize("given", [{}, {"text": 1}, {"text": "\ud800"}, {"text": float("nan")}, [], None])
def test_a_bad_input_is_refused_and_leaves_no_request_behind(given):
    async def program(world):
        async with world.open() as runtime:
            with pytest.raises(InvalidInput, match="the input of task_0"):
                await runtime.submit("task_0", given)
            assert recorded(world, v.RequestReceived) == []
            await runtime.submit("task_0", {"text": "fine"})

    simulate(program)


@pytest.mark.parametrize("given", [{"a": "\ud800"}, {"a": float("inf")}, {"a": [[[[]]]] * 3}, {"a": None}])
def test_where_any_object_is_taken_no_object_brings_the_task_down(given):
    async def program(world):
        world.teaches = lambda asked: {"category": "bug"}
        async with world.open() as runtime:
            outcome = (await asyncio.gather(runtime.submit("task_0", given), return_exceptions=True))[0]
            assert not isinstance(outcome, Exception) or isinstance(outcome, InvalidInput)
            assert runtime._scope.statistics()["task/task_0"].restarts == 0

    simulate(program, Options(task={"input_schema": None}))


def test_a_correction_becomes_an_example_and_a_wrong_one_is_refused():
    async def program(world):
        async with world.open() as runtime:
            result = await runtime.submit("task_0", {"text": "1"})
            await runtime.correct(result.request_id, {"category": "bug"}, author="ann")
            with pytest.raises(InvalidInput, match="does not fit the output"):
                await runtime.correct(result.request_id, {"category": "?"})
            with pytest.raises(UnknownRequest, match="req_"):
                await runtime.correct("req_0", {"category": "bug"})
            assert [event.source for event in recorded(world, v.ExampleCollected)] == ["remote", "correction"]

    simulate(program)


@pytest.mark.parametrize("rating", [-0.1, 1.1, float("nan")])
def test_a_rating_lies_between_0_and_1(rating):
    async def program(world):
        async with world.open() as runtime:
            result = await runtime.submit("task_0", {"text": "1"})
            with pytest.raises(InvalidInput, match="from 0 to 1"):
                await runtime.feedback(result.request_id, rating)
            await runtime.feedback(result.request_id, 1.0)
            assert len(recorded(world, v.FeedbackReceived)) == 1

    simulate(program)


def test_the_story_of_a_request_says_who_answered_and_why():
    async def program(world):
        async with world.open() as runtime:
            asked = await world.drive(runtime)
            story = await runtime.explain(asked[-1].request_id)
            assert story.summary.startswith("answered by the local model; p_agree")
            assert story.output == truth(asked[-1].given)
            assert story.input == asked[-1].given
            assert [step.event for step in story.steps][:2] == ["request_received", "request_routed"]
            with pytest.raises(UnknownRequest):
                await runtime.explain("req_0")

    simulate(program, Options(traffic=Traffic(requests=160, settle=True)))


def test_a_wrong_intervention_is_refused():
    async def program(world):
        async with world.open() as runtime:
            with pytest.raises(msgspec.ValidationError, match="action"):
                await runtime.operate("task_0", "explode")

    simulate(program)


def test_closing_answers_what_is_in_flight_and_refuses_what_comes_later():
    async def program(world):
        runtime = await world.open()
        asked = [asyncio.create_task(runtime.submit("task_0", {"text": f"{number}"})) for number in range(20)]
        await world.clock.sleep(0.05)
        await runtime.close()
        await runtime.close()
        assert [(await one).output for one in asked] == [truth({"text": f"{number}"}) for number in range(20)]
        with pytest.raises(Overloaded, match="closed"):
            await runtime.submit("task_0", {"text": "late"})
        world.memory.reopen()
        assert [one.tag for one in world.memory.scan()][-1] == v.RuntimeStopped.TAG

    simulate(program, Options(latency_s=(0.5, 2.0)))


def test_the_reinforce_intervention_holds_until_it_is_earned_again():
    async def program(world):
        async with world.open() as runtime:
            await world.drive(runtime, Traffic(requests=140, settle=True))
            assert runtime.status("task_0").phase == "steady_state"
            await runtime.operate("task_0", "reinforce")
            assert runtime.status("task_0").phase == "reinforcement"
            await world.drive(runtime, Traffic(requests=20, settle=True), begin=1000)
            assert runtime.status("task_0").phase == "reinforcement"
            await world.drive(runtime, Traffic(requests=120, settle=True), begin=2000)
            assert runtime.status("task_0").phase == "steady_state"

    simulate(program)
