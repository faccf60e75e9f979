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
        self._at = now

    def take(self, amount: float, now: float) -> float:
        """Take ``amount`` and return the seconds to wait until it is covered; 0 when it is now."""
        wait = self.peek(amount, now)
        self.level -= amount
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

    def learn(self, allowance: Allowance, now: float) -> None:
        """Believe the provider where it has less left than is known here.

        The level kept here counts what is under way and not yet seen by the provider; the provider's figure counts
        what others take from the same account. The lower one is the safer.
        """
        self._refill(now)
        self.capacity = max(1.0, allowance.limit)
        # What remains is told in whole numbers: up to one less was used, and of little the quotient is noise.
        used = allowance.limit - allowance.remaining - 1
        if used >= allowance.limit / 10 and allowance.reset_s > 0:
            self.rate = used / allowance.reset_s
        self.level = min(self.level, self.capacity, allowance.remaining)

    def _refill(self, now: float) -> None:
        self.level = min(self.capacity, self.level + max(0.0, now - self._at) * self.rate)
        self._at = max(now, self._at)


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
    ) -> AsyncIterator[None]:
        """Wait for a turn and hold it. ``deadline`` is on the monotonic clock; ``amounts`` what the call uses up.

        Raises :class:`LimitReached`, having taken nothing, when the turn would come after the deadline.
        """
        await self._place(deadline)
        self.in_flight += 1
        try:
            await self._wait(deadline, amounts)
            yield
        finally:
            self.in_flight -= 1
            self._places.release()

    def learn(self, allowances: Mapping[str, Allowance]) -> None:
        """Take in the limits that a response names. Rates are per minute until more is known."""
        now = self._clock.monotonic()
        for name, allowance in allowances.items():
            if allowance.limit <= 0:
                continue
            if name not in self._learned:
                bucket = self._learned[name] = Bucket(allowance.limit, allowance.limit / 60, now)
                # The others under way went out before there was a count; the provider may not have seen them yet.
                bucket.level = allowance.remaining - (max(0, self.in_flight - 1) if name == REQUESTS else 0)
            self._learned[name].learn(allowance, now)

    def pause(self, seconds: float) -> None:
        """Let nobody start before ``seconds`` have passed: what a refusal asked for."""
        self._not_before = max(self._not_before, self._clock.monotonic() + seconds)

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
