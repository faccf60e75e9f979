"""Trainings that time brings about, over virtual days and weeks."""

import asyncio
import contextlib

from apprentice.testing.clock import run_virtual
from apprentice.testing.world import Options, Traffic, simulate
from apprentice_actors.watching import remind
from apprentice_events import vocabulary as v

HOUR_S = 3600.0
DAY_NS = 86_400 * 10**9
FIRST = Traffic(requests=70, burst=5, settle=True, gap_s=0.0)
SOME = Traffic(requests=45, burst=15, settle=True, gap_s=0.0)
"""Enough to decide on a challenger, which every trigger waits for."""


def options(*outcomes, tasks=1, **triggers):
    local = {"fine_tune_batch_size": 10_000, "triggers": triggers}
    everything = {"min_floor": 1.0}  # compared, so that a challenger is decided on soon
    config = {"local": local, "budget": {"timezone": "Europe/Berlin"}, "sampling": everything}
    return Options(seed=3, tasks=tasks, config=config, outcomes=outcomes or ("perfect",))


def trainings(world, after=0):
    """(cause, time of day in hours UTC, day since the start) of each training triggered."""
    start = world.clock._loop.start_ns
    found = []
    for record in world.memory.scan():
        event = record.event()
        if isinstance(event, v.TrainingTriggered) and record.position > after:
            found.append((event.cause, record.time_ns % DAY_NS / 3.6e12, (record.time_ns - start) // DAY_NS))
    return found


def test_a_nightly_schedule_over_two_weeks_trains_in_those_nights_before_which_something_came():
    async def program(world):
        async with world.open() as runtime:
            await world.drive(runtime, FIRST)
            for day in range(14):
                if day % 3 == 0:
                    await world.drive(runtime, SOME, begin=1000 * (day + 1))
                await world.clock.sleep(24 * HOUR_S)
            first, *later = trainings(world)
            assert first[0] == "first"
            assert {(cause, hour) for cause, hour, _ in later} == {("schedule", 2.0)}, "three in Berlin's winter"
            assert [day for _, _, day in later] == [0, 3, 6, 9, 12]

    simulate(program, options(cron="0 3 * * *"))


def test_a_time_that_was_missed_is_made_up_for_after_the_restart():
    async def program(world):
        async with world.open() as runtime:
            await world.drive(runtime, FIRST)
            await world.drive(runtime, SOME, begin=1000)
            assert len(trainings(world)) == 1
        await world.clock.sleep(60 * HOUR_S)
        async with world.open() as runtime:
            await world.clock.sleep(120.0)
            await runtime.settled()
            (_, (cause, hour, day)) = trainings(world)
            assert (cause, int(hour), day) == ("schedule", 12, 2)
            await world.clock.sleep(48 * HOUR_S)
            assert len(trainings(world)) == 2, "nothing new came since"

    simulate(program, options(cron="0 3 * * *"))


def test_nothing_waits_longer_than_it_may_whoever_restarts_meanwhile():
    async def program(world):
        async with world.open() as runtime:
            await world.drive(runtime, FIRST)
            begun = world.clock.now_ns()
            await world.drive(runtime, SOME, begin=1000)
            await world.clock.sleep(4 * HOUR_S)
        async with world.open() as runtime:
            await world.clock.sleep(1.9 * HOUR_S)
            assert len(trainings(world)) == 1
            await world.clock.sleep(0.2 * HOUR_S)
            (_, late) = trainings(world)
            assert late[0] == "max_wait"
            record = [one for one in world.memory.scan() if one.tag == v.TrainingTriggered.TAG][-1]
            assert 0 <= record.time_ns - begun - 6 * HOUR_S * 1e9 <= 60e9 + 60e9

    simulate(program, options(max_wait_hours=6))


def test_a_pause_holds_a_batch_back_until_it_is_over():
    async def program(world):
        async with world.open() as runtime:
            await world.drive(runtime, FIRST)
            await world.drive(runtime, Traffic(requests=60, settle=True, gap_s=0.0), begin=1000)
            assert [cause for cause, _, _ in trainings(world)] == ["first"]
            await world.clock.sleep(121 * 60.0)
            await runtime.settled()
            assert [cause for cause, _, _ in trainings(world)] == ["first", "batch"]

    given = options(cooldown_minutes=120)
    given.config["local"]["fine_tune_batch_size"] = 20
    simulate(program, given)


def test_a_failing_schedule_stops_after_three_nights_until_a_person_asks():
    async def program(world):
        async with world.open() as runtime:
            await world.drive(runtime, FIRST)
            await world.drive(runtime, SOME, begin=1000)
            await world.clock.sleep(8 * 24 * HOUR_S)
            assert [cause for cause, _, _ in trainings(world)] == ["first", *["schedule"] * 3]
            assert "3 trainings in a row failed" in runtime.status("task_0").alerts["training"]
            await runtime.operate("task_0", "train")
            await runtime.settled()
            assert "training" not in runtime.status("task_0").alerts
            await world.drive(runtime, SOME, begin=2000)
            await world.clock.sleep(24 * HOUR_S)
            assert [cause for cause, _, _ in trainings(world)][4:] == ["manual", "schedule"]

    simulate(program, options("perfect", "failing", "failing", "failing", "perfect", cron="0 3 * * *"))


def test_every_task_has_its_own_time():
    async def program(world):
        async with world.open() as runtime:
            await world.drive(runtime, Traffic(requests=150, settle=True, gap_s=0.0))
            before = len(trainings(world))
            await runtime.submit("task_1", {"text": "something new"})
            await world.clock.sleep(24 * HOUR_S)
            found = trainings(world)[before:]
            assert [cause for cause, _, _ in found] == ["schedule"] * len(found)
            assert found

    simulate(program, options(tasks=2, cron="0 3 * * *"))


def test_the_watch_over_time_comes_at_full_minutes_and_outlives_a_defect():
    told = []

    def broken(now_ns):
        raise ValueError("as planned")

    async def program(clock):
        await clock.sleep(12.5)
        tasks = {"broken": broken, "due": lambda now_ns: True, "not due": lambda now_ns: False}
        watching = asyncio.create_task(
            remind(tasks, lambda name, command: told.append((name, clock.monotonic())), clock)
        )
        await clock.sleep(150.0)
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching

    run_virtual(program)
    assert told == [("due", 60.0), ("due", 120.0)]
