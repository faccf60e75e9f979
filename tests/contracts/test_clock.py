"""The contract of the Clock port. Sleeping is judged by the loop's time, which is virtual here for every clock."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from apprentice.system import SystemClock
from apprentice.testing.clock import VirtualClock, VirtualTimeLoop, virtual_time
from apprentice_actors.ports import Clock

type MakeClock = Callable[[], Clock]


def virtual_clock() -> Clock:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    return VirtualClock(loop)


every_clock = pytest.mark.parametrize("make", [SystemClock, virtual_clock])


@every_clock
@virtual_time
async def test_now_is_utc_in_whole_nanoseconds(make: MakeClock):
    now_ns = make().now_ns()
    assert type(now_ns) is int
    assert datetime(2025, 1, 1, tzinfo=UTC).timestamp() < now_ns / 1e9 < datetime(2100, 1, 1, tzinfo=UTC).timestamp()


@every_clock
@virtual_time
async def test_the_monotonic_clock_never_goes_back(make: MakeClock):
    clock, readings = make(), []
    for _ in range(50):
        readings.append(clock.monotonic())
        await clock.sleep(0.01)
    assert readings == sorted(readings)
    assert all(type(reading) is float for reading in readings)


@every_clock
@virtual_time
async def test_a_sleep_suspends_for_its_seconds(make: MakeClock):
    loop = asyncio.get_running_loop()
    await make().sleep(3600.5)
    assert loop.time() == 3600.5


@every_clock
@virtual_time
async def test_a_sleep_of_nothing_lets_the_others_run_once(make: MakeClock):
    ran = []
    asyncio.get_running_loop().call_soon(ran.append, True)
    await make().sleep(0)
    assert ran == [True]


@every_clock
@virtual_time
async def test_sleepers_wake_in_the_order_of_their_times(make: MakeClock):
    clock, woken = make(), []

    async def sleeper(seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append(seconds)

    await asyncio.gather(*(sleeper(seconds) for seconds in (3, 1, 2)))
    assert woken == [1, 2, 3]


@every_clock
@virtual_time
async def test_a_sleep_can_be_cancelled(make: MakeClock):
    loop = asyncio.get_running_loop()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(make().sleep(60), timeout=1)
    assert loop.time() == 1
