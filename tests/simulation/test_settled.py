"""A runtime that says it is settled has written everything that it decided, however slow its log is."""

import pytest

from apprentice.errors import ApprenticeError
from apprentice.testing.folding import refold
from apprentice.testing.world import Options, Traffic, simulate
from apprentice_events import replay
from apprentice_events import vocabulary as v

TASK = "task/task_0"
APPEND_S = 0.5


def slow_down(world, stream=TASK):
    """Every append of a stream takes its time from here on."""
    append = world.memory.append

    async def slowly(name, *args, **kwargs):
        if name == stream:
            await world.clock.sleep(APPEND_S)
        return await append(name, *args, **kwargs)

    world.memory.append = slowly


def written(world):
    return [record.event() for record in world.memory.scan()]


def is_whole(world, runtime):
    """Whether the log has all that the tasks and the purse know."""
    states, spend = refold(world.memory.scan())
    differences = [replay.diff(state, runtime._state(name)) for name, state in states.items()]
    return [*differences, replay.diff(spend, runtime._spend)] == [[]] * (len(states) + 1)


def test_the_end_of_a_training_is_in_the_log():
    async def program(world):
        async with world.open() as runtime:
            slow_down(world)
            await world.drive(runtime)
            await runtime.settled()
            assert runtime.status("task_0").champion == "task_0@v1"
            assert [event.version for event in written(world) if isinstance(event, v.AdapterPromoted)] == ["task_0@v1"]
            assert is_whole(world, runtime)

    simulate(program, Options(traffic=Traffic(requests=50, burst=50)))


def test_what_the_purse_says_is_in_the_log_and_so_is_what_the_task_makes_of_it():
    async def program(world):
        async with world.open() as runtime:
            slow_down(world, "treasury")
            await world.drive(runtime)
            await runtime.settled()
            said = [type(event) for event in written(world)]
            assert v.AlertRaised in said
            assert v.SpendPaced in said
            assert is_whole(world, runtime)

    budget = {"daily": "0.01", "warn_at": 0.01, "pacing": True}
    simulate(program, Options(config={"budget": budget}, traffic=Traffic(requests=8, burst=8), reserved_nd=1_000_000))


@pytest.mark.parametrize("restarts", [1, 2])
def test_a_life_that_ends_while_it_writes_is_succeeded_by_one_that_has_written(restarts):
    async def program(world):
        async with world.open() as runtime:
            slow_down(world)
            world.log.stream = TASK
            await world.drive(runtime)
            world.log.fail_next("lost", restarts)
            with pytest.raises(ApprenticeError):
                await runtime.submit("task_0", {"text": "lost"})
            await runtime.settled()
            assert runtime._scope.statistics()[TASK].restarts == restarts
            assert is_whole(world, runtime)

    simulate(program, Options(traffic=Traffic(requests=50, burst=50)))


def test_nobody_waits_for_a_runtime_that_is_closed():
    async def program(world):
        runtime = await world.open()
        await runtime.submit("task_0", {"text": "1"})
        await runtime.close()
        await runtime.settled()

    simulate(program)
