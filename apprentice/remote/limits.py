"""Keeping within a provider's rate limits by waiting, so that they are not found out by being refused.

Three brakes, in this order: a number of calls in flight, token buckets (one from the configuration, others learned
from what the provider says in its response headers), and a pause that a refusal has asked for. A bucket that runs
empty hands out turns in advance: its level goes negative and each caller is told how long to wait, which keeps the
order of arrival (the virtual-scheduling form of the leaky bucket, ITU-T I.371, annex A). No wait goes beyond the
caller's deadline.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import MappingProxyType

import msgspec

from apprentice_actors.ports import Clock

REQUESTS = "requests"


class LimitReached(Exception):
    """Waiting for a turn would take longer than the deadline allows. ``wait_s`` is how long it would be, if known."""

    def __init__(self, message: str, wait_s: float | None = None) -> None:
        super().__init__(message)
        self.wait_s = wait_s


class Allowance(msgspec.Struct, frozen=True, kw_only=True):
    """What a provider says is left of one limit: ``reset_s`` seconds until it is whole again."""

    limit: float
    remaining: float
    reset_s: float


class Bucket:
    """A token bucket. ``rate`` is in tokens per second; times are monotonic seconds."""

    def __init__(self, capacity: float, rate: float, now: float) -> None:
        self.capacity = capacity
        self.rate = rate
        self.level = capacity
        self.taken = 0.0
        """All that was ever taken: tells how much went out between two moments."""
        self._at = now

    def take(self, amount: float, now: float) -> float:
        """Take ``amount`` and return the seconds to wait until it is covered; 0 when it is now."""
        wait = self.peek(amount, now)
        self.level -= amount
        self.taken += amount
        return wait

    def peek(self, amount: float, now: float) -> float:
        """The seconds that :meth:`take` would return, without taking."""
        self._refill(now)
        # More than a full bucket can never be covered; it passes as soon as the bucket is full.
        missing = min(amount, self.capacity) - self.level
        return max(0.0, missing / self.rate)

    def give_back(self, amount: float) -> None:
        """Undo a take that was not used."""
        self.level = min(self.capacity, self.level + amount)
        self.taken -= amount

    def learn(self, allowance: Allowance, unseen: float, now: float) -> None:
        """Believe the provider. ``unseen`` is what went out after the request that this is the answer to."""
        self.capacity = max(1.0, allowance.limit)
        used = allowance.limit - allowance.remaining
        if used > 0 and allowance.reset_s > 0:
            self.rate = used / allowance.reset_s
        self.level = min(self.capacity, allowance.remaining - unseen)
        self._at = now

    def _refill(self, now: float) -> None:
        self.level = min(self.capacity, self.level + max(0.0, now - self._at) * self.rate)
        self._at = max(now, self._at)


class Turn:
    """One call's place; :meth:`learn` and :meth:`refused` report what the provider said about its limits."""

    def __init__(self, limiter: "RateLimiter", amounts: Mapping[str, float]) -> None:
        self._limiter = limiter
        self._amounts = amounts
        self._taken_before = limiter.taken()

    def learn(self, allowances: Mapping[str, Allowance]) -> None:
        """Take in the limits that a response names."""
        self._limiter.learn(allowances, self._taken_before)

    def refused(self, retry_after_s: float) -> None:
        """The provider asked for a pause: nobody starts a call before it is over."""
        self._limiter.pause(retry_after_s)


class RateLimiter:
    """The brakes of one provider account; share one between the models that share the account."""

    def __init__(self, clock: Clock, *, max_concurrent: int = 64, requests_per_minute: float | None = None) -> None:
        if max_concurrent < 1 or (requests_per_minute is not None and requests_per_minute <= 0):
            raise ValueError(
                f"max_concurrent {max_concurrent} and requests_per_minute {requests_per_minute} must be above zero; "
                "leave requests_per_minute out for no limit of one's own"
            )
        self._clock = clock
        self._places = asyncio.Semaphore(max_concurrent)
        self._learned: dict[str, Bucket] = {}
        self._own: Bucket | None = None
        if requests_per_minute is not None:
            # A burst of one second's worth, at least one request: a provider enforces its minute in shorter pieces too.
            rate = requests_per_minute / 60
            self._own = Bucket(max(1.0, rate), rate, clock.monotonic())
        self._not_before = float("-inf")
        self.in_flight = 0

    @asynccontextmanager
    async def turn(
        self, deadline: float, amounts: Mapping[str, float] = MappingProxyType({REQUESTS: 1.0})
    ) -> AsyncIterator[Turn]:
        """Wait for a turn and hold it. ``deadline`` is on the monotonic clock; ``amounts`` what the call uses up.

        Raises :class:`LimitReached`, having taken nothing, when the turn would come after the deadline.
        """
        await self._place(deadline)
        self.in_flight += 1
        try:
            await self._wait(deadline, amounts)
            yield Turn(self, amounts)
        finally:
            self.in_flight -= 1
            self._places.release()

    def learn(self, allowances: Mapping[str, Allowance], taken_before: Mapping[str, float]) -> None:
        """Take in what a response says is left. Use :meth:`Turn.learn`, which knows what went out since."""
        now = self._clock.monotonic()
        for name, allowance in allowances.items():
            if allowance.limit <= 0:
                continue
            bucket = self._learned.get(name)
            if bucket is None:
                bucket = self._learned[name] = Bucket(allowance.limit, allowance.limit / 60, now)
                unseen = float(max(0, self.in_flight - 1)) if name == REQUESTS else 0.0
            else:
                unseen = bucket.taken - taken_before.get(name, 0.0)
            bucket.learn(allowance, unseen, now)

    def pause(self, seconds: float) -> None:
        """Let nobody start before ``seconds`` have passed."""
        self._not_before = max(self._not_before, self._clock.monotonic() + seconds)

    def taken(self) -> dict[str, float]:
        """How much of each learned limit went out so far."""
        return {name: bucket.taken for name, bucket in self._learned.items()}

    async def _place(self, deadline: float) -> None:
        remaining = deadline - self._clock.monotonic()
        try:
            async with asyncio.timeout(max(0.0, remaining)):
                await self._places.acquire()
        except TimeoutError:
            raise LimitReached(
                "all places for calls in flight stayed taken until the deadline; raise max_concurrent or send less"
            ) from None

    async def _wait(self, deadline: float, amounts: Mapping[str, float]) -> None:
        wait = self._take(deadline, amounts)
        try:
            while wait > 0:
                await self._clock.sleep(wait)
                # Others may have been told to pause meanwhile; the buckets are settled already.
                wait = self._pause_left(deadline)
        except (asyncio.CancelledError, LimitReached):
            for bucket, amount in self._uses(amounts):
                bucket.give_back(amount)
            raise

    def _take(self, deadline: float, amounts: Mapping[str, float]) -> float:
        now = self._clock.monotonic()
        wait = max([self._pause_left(deadline), *(bucket.peek(amount, now) for bucket, amount in self._uses(amounts))])
        if now + wait > deadline:
            raise LimitReached(
                f"the provider's rate limit leaves no turn for {wait:.1f} s, which is beyond the deadline in "
                f"{max(0.0, deadline - now):.1f} s; send less, or ask the provider for a higher limit",
                wait,
            )
        for bucket, amount in self._uses(amounts):
            bucket.take(amount, now)
        return wait

    def _pause_left(self, deadline: float) -> float:
        now = self._clock.monotonic()
        if self._not_before > max(now, deadline):
            left = self._not_before - now
            raise LimitReached(f"the provider asked for a pause of another {left:.1f} s, beyond the deadline", left)
        return max(0.0, self._not_before - now)

    def _uses(self, amounts: Mapping[str, float]) -> list[tuple[Bucket, float]]:
        uses = [(self._learned[name], amount) for name, amount in amounts.items() if name in self._learned]
        if self._own is not None:
            uses.append((self._own, amounts.get(REQUESTS, 1.0)))
        return uses
