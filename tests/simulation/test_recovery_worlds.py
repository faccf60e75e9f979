"""After a process died: dangling calls are closed and charged at their maximum, a training is tried again.

The death is simulated by opening a second runtime on a copy of the log as it was at a moment.
"""

import asyncio
import copy
import random

import pytest

from apprentice.testing.folding import refold
from apprentice.testing.world import Options, SimulatedWorld, Traffic, simulate
from apprentice_events import replay
from apprentice_events import vocabulary as v
from apprentice_events.log import MemoryLog


async def reborn_at(world: SimulatedWorld, runtime, traffic: Traffic, after_s: float) -> None:
    """Drive, and at a moment leave the old process to itself; the world goes on with a copy of its log."""
    driving = asyncio.create_task(world.drive(runtime, traffic))
    await world.clock.sleep(after_s)
    driving.cancel()
    await asyncio.gather(driving, return_exceptions=True)
    left_behind = world.memory
    world.memory = copy.deepcopy(left_behind)
    world.log.inner = left_behind
    world.log = type(world.log)(world.memory)


def tags(world, *kinds):
    return [event for event in (record.event() for record in world.memory.scan()) if isinstance(event, kinds)]


@pytest.mark.parametrize("seed", range(6))
def test_dangling_calls_are_closed_at_their_maximum(seed):
    chance = random.Random(seed)

    async def program(world):
        old = await world.open()
        await reborn_at(world, old, world.options.traffic, 0.05 + chance.uniform(0.0, 2.0) * seed)
        before, _ = refold(world.memory.scan())
        calling = {name: flight for name, flight in before["task_0"].flights.items() if flight.calling}
        dangling = dict(before["task_0"].flights)
        async with world.open() as runtime:
            assert runtime._spend.reservations == {}
            settled = {event.request: event for event in tags(world, v.BudgetSettled)}
            for name, flight in calling.items():
                assert settled[name].amount_nd == sum(flight.calls.values()) > 0
            recovered = {event.request for event in tags(world, v.RequestRecovered)}
            unanswered = {name for name, flight in dangling.items() if not flight.over}
            assert unanswered <= recovered <= set(dangling)
            states, spend = refold(world.memory.scan())
            assert states["task_0"].flights == {}
            assert replay.diff(states["task_0"], runtime._state("task_0")) == []
            assert replay.diff(spend, runtime._spend) == []
            await world.drive(runtime, Traffic(requests=60, burst=10), begin=10_000)
        assert len(calling) == 20 or seed
        await old.close()

    options = Options(
        seed=seed,
        traffic=Traffic(requests=400, burst=20, gap_s=0.0),
        latency_s=(0.1, 1.0),
        task={"confidence_thresholds": {"phase1_to_phase2": 30}},
        config={"local": {"fine_tune_batch_size": 40}},
    )
    simulate(program, options)


def test_an_interrupted_training_is_tried_again_under_a_new_number_and_is_no_strike():
    async def program(world):
        old = await world.open()
        await reborn_at(world, old, Traffic(requests=50, gap_s=0.0), 12.0)
        assert len(tags(world, v.TrainingTriggered)) == 1
        async with world.open() as runtime:
            await runtime.settled()
            assert runtime.status("task_0").champion == "task_0@v2"
            assert runtime._state("task_0").versions.failures_in_a_row == 0
        world.memory.reopen()
        failed = tags(world, v.TrainingFailed)
        assert [(event.version, event.interrupted) for event in failed] == [("task_0@v1", True)]
        started = tags(world, v.TrainingStarted)
        assert started[-1].rows_train + started[-1].rows_holdout == 50
        await old.close()

    simulate(program, Options(outcomes=("slow",)))


def test_a_version_that_was_being_examined_is_examined_again():
    async def program(world):
        async with world.open() as runtime:
            await world.drive(runtime, Traffic(requests=50))
            await runtime.settled()
        records = list(world.memory._records)
        cut = next(index for index, record in enumerate(records) if record.tag == v.AdapterTrained.TAG)
        world.memory = _replayed(records[: cut + 1], world.memory._bodies)
        world.log = type(world.log)(world.memory)
        async with world.open() as runtime:
            await runtime.settled()
            assert runtime.status("task_0").champion == "task_0@v1"

    simulate(program)


def _replayed(records, bodies):
    """A log of these records alone."""
    log = MemoryLog()
    log._bodies = bodies
    for record in records:
        log._keep(record)
    return log


@pytest.mark.parametrize("seed", range(4))
def test_every_prefix_of_a_log_can_be_opened(seed):
    """A crash may leave any prefix behind, though a batch is whole; even torn ones must not bring a task down."""
    chance = random.Random(seed)

    async def program(world):
        async with world.open() as runtime:
            await world.drive(runtime)
        records, bodies = list(world.memory._records), world.memory._bodies
        for cut in sorted(chance.sample(_commits(records), 12)):
            world.memory = _replayed(records[:cut], dict(bodies))
            world.log = type(world.log)(world.memory)
            async with world.open() as runtime:
                asked = await world.drive(runtime, Traffic(requests=3), begin=5000)
                await runtime.settled()
                assert [one.error for one in asked] == [None] * 3
                assert runtime._spend.reservations == {}
            world.memory.reopen()
            assert replay.verify(world.memory).ok

    options = Options(
        seed=seed,
        traffic=Traffic(requests=160, burst=8),
        task={"confidence_thresholds": {"phase1_to_phase2": 30}},
        config={"local": {"fine_tune_batch_size": 40}},
        outcomes=("learning", "failing", "perfect"),
    )
    simulate(program, options)


def _commits(records) -> list[int]:
    """Positions at which one commit ends and another begins: stream or time change, or a new request comes in."""
    found = []
    for index in range(1, len(records)):
        before, after = records[index - 1], records[index]
        if before.stream != after.stream or before.time_ns != after.time_ns:
            found.append(index)
    return found
