import asyncio

import pytest

from apprentice.remote.limits import Allowance, Bucket, LimitReached, RateLimiter
from apprentice.testing import VirtualClock, run_virtual


def minutes(test):
    """Run a test that takes a clock in virtual time."""

    def run() -> None:
        run_virtual(test)

    run.__name__ = test.__name__
    return run


async def pass_through(limiter: RateLimiter, clock: VirtualClock, deadline: float) -> float:
    async with limiter.turn(deadline):
        return clock.monotonic()


def test_a_bucket_hands_out_turns_in_advance():
    bucket = Bucket(capacity=2, rate=0.5, now=0)
    assert [bucket.take(1, 0) for _ in range(4)] == [0, 0, 2, 4]
    assert bucket.take(1, 10) == 0


def test_a_bucket_never_holds_more_than_its_capacity():
    bucket = Bucket(capacity=2, rate=100, now=0)
    assert [bucket.take(1, 1_000) for _ in range(3)] == [0, 0, 0.01]


def test_more_than_a_full_bucket_passes_when_the_bucket_is_full():
    bucket = Bucket(capacity=10, rate=1, now=0)
    assert bucket.take(50, 0) == 0
    assert bucket.take(1, 0) == 41


def test_a_clock_that_stands_still_or_jumps_back_gives_nothing():
    bucket = Bucket(capacity=1, rate=1, now=100)
    bucket.take(1, 100)
    assert bucket.peek(1, 50) == 1


def test_a_bucket_believes_the_provider_when_it_has_less():
    bucket = Bucket(capacity=100, rate=1, now=0)
    bucket.learn(Allowance(limit=50, remaining=9, reset_s=20), 0)
    assert (bucket.capacity, bucket.level, bucket.rate) == (50, 9, 2.0)
    bucket.take(5, 0)
    bucket.learn(Allowance(limit=50, remaining=8, reset_s=20), 0)
    assert bucket.level == 4, "what is under way stays counted"


@minutes
async def test_requests_per_minute_are_kept(clock):
    limiter = RateLimiter(clock, requests_per_minute=120)
    starts = await asyncio.gather(*(pass_through(limiter, clock, 1_000) for _ in range(241)))
    assert starts == sorted(starts), "in order of arrival"
    assert starts[-1] - starts[0] == pytest.approx((241 - 2) / 2)


@minutes
async def test_no_more_than_the_allowed_are_in_flight(clock):
    limiter = RateLimiter(clock, max_concurrent=3)
    peak = 0

    async def call() -> None:
        nonlocal peak
        async with limiter.turn(1_000):
            peak = max(peak, limiter.in_flight)
            await clock.sleep(1)

    began = clock.monotonic()
    await asyncio.gather(*(call() for _ in range(10)))
    assert (peak, limiter.in_flight) == (3, 0)
    assert clock.monotonic() - began == pytest.approx(4)


@minutes
async def test_a_turn_after_the_deadline_is_refused_at_once_and_takes_nothing(clock):
    limiter = RateLimiter(clock, requests_per_minute=6)
    now = clock.monotonic()
    await pass_through(limiter, clock, now)
    for _ in range(5):
        with pytest.raises(LimitReached, match=r"no turn for 10\.0 s.*send less") as caught:
            await pass_through(limiter, clock, now + 9.9)
        assert caught.value.wait_s == pytest.approx(10)
    assert clock.monotonic() == now
    assert await pass_through(limiter, clock, now + 10.1) == pytest.approx(now + 10)


@minutes
async def test_waiting_for_a_place_ends_at_the_deadline(clock):
    limiter = RateLimiter(clock, max_concurrent=1)
    began = clock.monotonic()
    async with limiter.turn(began + 100):
        with pytest.raises(LimitReached, match="max_concurrent"):
            await pass_through(limiter, clock, began + 5)
        assert clock.monotonic() == pytest.approx(began + 5)
    assert await pass_through(limiter, clock, began + 5) == pytest.approx(began + 5)


@minutes
async def test_a_pause_holds_everybody(clock):
    limiter = RateLimiter(clock)
    began = clock.monotonic()
    limiter.pause(30)
    limiter.pause(10)
    starts = await asyncio.gather(*(pass_through(limiter, clock, began + 60) for _ in range(3)))
    assert starts == [pytest.approx(began + 30)] * 3
    limiter.pause(30)
    with pytest.raises(LimitReached, match="pause of another 30"):
        await pass_through(limiter, clock, clock.monotonic() + 29)


@minutes
async def test_a_pause_that_begins_during_the_wait_is_kept_too(clock):
    limiter = RateLimiter(clock, requests_per_minute=60)
    began = clock.monotonic()
    await pass_through(limiter, clock, began + 60)
    waiting = asyncio.create_task(pass_through(limiter, clock, began + 60))
    await clock.sleep(0.5)
    limiter.pause(20)
    assert await waiting == pytest.approx(began + 20.5)


@minutes
async def test_a_cancelled_wait_gives_its_turn_back(clock):
    limiter = RateLimiter(clock, requests_per_minute=60)
    began = clock.monotonic()
    await pass_through(limiter, clock, began + 60)
    waiting = asyncio.create_task(pass_through(limiter, clock, began + 60))
    await clock.sleep(0.5)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert limiter.in_flight == 0
    assert await pass_through(limiter, clock, began + 60) == pytest.approx(began + 1)


@minutes
async def test_a_learned_token_limit_is_waited_for(clock):
    limiter = RateLimiter(clock)
    limiter.learn({"input_tokens": Allowance(limit=6_000, remaining=0, reset_s=60)})
    began = clock.monotonic()
    async with limiter.turn(began + 60, {"requests": 1, "input_tokens": 1_000}):
        assert clock.monotonic() - began == pytest.approx(10, abs=0.1)


@minutes
async def test_what_is_under_way_when_a_limit_becomes_known_counts_against_it(clock):
    limiter = RateLimiter(clock)
    began = clock.monotonic()
    async with limiter.turn(began), limiter.turn(began), limiter.turn(began):
        limiter.learn({"requests": Allowance(limit=3, remaining=2, reset_s=20)})
        with pytest.raises(LimitReached):
            await pass_through(limiter, clock, began + 10)


@minutes
async def test_a_limit_of_nothing_is_not_believed(clock):
    limiter = RateLimiter(clock)
    limiter.learn({"requests": Allowance(limit=0, remaining=0, reset_s=60)})
    began = clock.monotonic()
    assert await pass_through(limiter, clock, began) == began


@pytest.mark.parametrize("wrong", [{"max_concurrent": 0}, {"requests_per_minute": 0}, {"requests_per_minute": -1.0}])
def test_limits_that_let_nothing_through_are_refused(wrong):
    with pytest.raises(ValueError, match="above zero"):
        RateLimiter(None, **wrong)
