"""The virtual-time loop: months in seconds, deadlocks named, real input and output refused."""

import asyncio
import gc
import inspect
import socket
import time
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apprentice.testing.clock import (
    Deadlock,
    RealInputOutput,
    SeededRandomness,
    VirtualClock,
    VirtualTimeLoop,
    run_virtual,
    virtual_time,
)

DAY_S = 86_400


def test_three_months_of_minutes_pass_in_no_time():
    async def quarter(clock: VirtualClock) -> int:
        minutes = 0
        while clock.monotonic() < 90 * DAY_S:
            await clock.sleep(15 * 60)
            minutes += 15
        return minutes

    began = time.perf_counter()
    assert run_virtual(quarter) == 90 * 24 * 60
    assert time.perf_counter() - began < 5


def test_one_jump_may_cross_years():
    async def wait(clock: VirtualClock) -> float:
        await clock.sleep(3 * 365 * DAY_S)
        return clock.monotonic()

    assert run_virtual(wait) == 3 * 365 * DAY_S


def test_the_date_starts_where_told_and_moves_with_the_time():
    start = datetime(2027, 3, 1, 12, 0, 0, 250_000, tzinfo=timezone(timedelta(hours=2)))

    async def dates(clock: VirtualClock) -> list[int]:
        first = clock.now_ns()
        await clock.sleep(1.5)
        return [first, clock.now_ns()]

    first_ns, second_ns = run_virtual(dates, start=start)
    assert first_ns == int(datetime(2027, 3, 1, 10, tzinfo=UTC).timestamp()) * 10**9 + 250_000_000
    assert second_ns - first_ns == 1_500_000_000


def test_a_start_without_time_zone_is_refused():
    with pytest.raises(ValueError, match="has no time zone"):
        VirtualTimeLoop(datetime(2027, 3, 1))  # noqa: DTZ001 -- the mistake under test


def test_waiting_for_what_cannot_come_is_a_deadlock_that_names_the_waiters():
    async def forsaken() -> None:
        await asyncio.Event().wait()

    async def program(clock: VirtualClock) -> None:
        task = asyncio.create_task(forsaken(), name="the forsaken one")
        await clock.sleep(7)
        await task

    with pytest.raises(Deadlock, match="deadlock at virtual second 7:") as caught:
        run_virtual(program)
    assert "the forsaken one: " in str(caught.value)
    assert "test_virtual_time.py" in str(caught.value)


def test_a_thread_is_refused():
    async def program(clock: VirtualClock) -> None:
        await asyncio.to_thread(len, "abc")

    with pytest.raises(RealInputOutput, match="in a thread on a virtual-time loop"):
        run_virtual(program)


def test_a_socket_is_refused():
    async def program(clock: VirtualClock) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            asyncio.get_running_loop().add_reader(ours, ours.recv, 1)

    with pytest.raises(RealInputOutput, match="real input and output on a virtual-time loop"):
        run_virtual(program)


def test_a_wake_up_from_outside_the_loop_is_no_deadlock():
    async def program(clock: VirtualClock) -> str:
        loop = asyncio.get_running_loop()
        woken: asyncio.Future[str] = loop.create_future()
        loop.call_soon_threadsafe(loop.call_soon_threadsafe, woken.set_result, "woken")
        return await woken

    assert run_virtual(program) == "woken"


def test_what_was_left_running_is_cancelled_and_nothing_leaks():
    ends = []

    async def endless(clock: VirtualClock) -> None:
        try:
            await clock.sleep(DAY_S)
        finally:
            ends.append(clock.monotonic())

    async def program(clock: VirtualClock) -> None:
        task = asyncio.create_task(endless(clock))
        await clock.sleep(1)
        assert not task.done()

    run_virtual(program)
    assert ends == [1]
    gc.collect()  # an unclosed loop would warn here, and warnings are errors


def test_errors_come_out_as_they_are():
    async def program(clock: VirtualClock) -> None:
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        run_virtual(program)


def test_one_seed_is_one_course_of_events():
    def course(seed: int) -> list[tuple[float, int]]:
        async def program(clock: VirtualClock) -> list[tuple[float, int]]:
            chance, diary = SeededRandomness(seed), []

            async def walker(number: int) -> None:
                for _ in range(20):
                    await clock.sleep(chance.random())
                    diary.append((clock.monotonic(), number))

            await asyncio.gather(*(walker(number) for number in range(5)))
            return diary

        return run_virtual(program)

    assert course(1) == course(1)
    assert course(1) != course(2)


@given(st.lists(st.floats(0, 1e8, allow_subnormal=False), min_size=1, max_size=20))
def test_timers_fire_in_order_at_their_very_times(delays_s: list[float]):
    async def program(clock: VirtualClock) -> list[tuple[float, float]]:
        fired: list[tuple[float, float]] = []

        async def sleeper(delay_s: float) -> None:
            await clock.sleep(delay_s)
            fired.append((clock.monotonic(), delay_s))

        await asyncio.gather(*(sleeper(delay_s) for delay_s in delays_s))
        return fired

    fired = run_virtual(program)
    assert len(fired) == len(delays_s)
    assert [now for now, _ in fired] == sorted(now for now, _ in fired)
    assert all(now == delay_s for now, delay_s in fired)


@pytest.mark.parametrize("number", [1, 2])
@virtual_time
async def test_a_virtual_time_test_takes_fixtures_and_parameters(number: int, tmp_path, clock: VirtualClock):
    assert isinstance(asyncio.get_running_loop(), VirtualTimeLoop)
    assert tmp_path.is_dir()
    await clock.sleep(number * DAY_S)
    assert clock.monotonic() == number * DAY_S


def test_the_decorated_test_is_an_ordinary_one_to_pytest():
    @virtual_time
    async def test(number: int, clock: VirtualClock) -> None: ...

    assert not inspect.iscoroutinefunction(test)
    assert list(inspect.signature(test).parameters) == ["number"]
