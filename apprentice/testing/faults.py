"""What can go wrong at a provider, and when it is to go wrong: by schedule, by chance with a seed, or next."""

import random
from collections import deque
from collections.abc import Mapping, Sequence
from enum import StrEnum


class Fault(StrEnum):
    """One way in which a call fails; the comment says what the client gets to see."""

    rate_limited = "rate_limited"  # 429 with retry-after
    rate_limited_silently = "rate_limited_silently"  # 429 without retry-after
    spend_limit = "spend_limit"  # 429 that no retry cures
    usage_limit = "usage_limit"  # 400 that names usage limits
    bad_request = "bad_request"  # 400
    unauthorized = "unauthorized"  # 401
    billing = "billing"  # 402
    forbidden = "forbidden"  # 403
    not_found = "not_found"  # 404
    request_timeout = "request_timeout"  # 408
    conflict = "conflict"  # 409
    too_large = "too_large"  # 413
    server_error = "server_error"  # 500
    final_server_error = "final_server_error"  # 500 with x-should-retry: false
    bad_gateway = "bad_gateway"  # 502 with a page of HTML
    unavailable = "unavailable"  # 503
    gateway_timeout = "gateway_timeout"  # 504
    overloaded = "overloaded"  # 529
    slow = "slow"  # the right answer after slow_s seconds
    duplicate = "duplicate"  # the right answer twice, one after the other on the same connection
    hang = "hang"  # no answer, and the connection stays open
    cut_connection = "cut_connection"  # the connection closes before the first byte of a response
    cut_body = "cut_body"  # the connection closes in the middle of the response
    max_tokens = "max_tokens"  # 200, JSON cut off, stop_reason max_tokens
    context_window = "context_window"  # 200, stop_reason model_context_window_exceeded
    refusal = "refusal"  # 200, stop_reason refusal
    paused = "paused"  # 200, stop_reason pause_turn
    not_json = "not_json"  # 200, prose
    not_an_object = "not_an_object"  # 200, a JSON array
    wrong_schema = "wrong_schema"  # 200, an object that fits no schema
    garbled = "garbled"  # 200, a body that is no message


RETRIED = frozenset(
    {
        Fault.rate_limited,
        Fault.rate_limited_silently,
        Fault.request_timeout,
        Fault.conflict,
        Fault.server_error,
        Fault.bad_gateway,
        Fault.unavailable,
        Fault.gateway_timeout,
        Fault.overloaded,
    }
)
"""Faults after which the same request may succeed, and which are certainly not billed."""


class FaultPlan:
    """Decides for each request, by its index from 0, what goes wrong with it.

    ``schedule`` names faults by index; otherwise, with ``probability``, one of ``kinds`` is drawn. The draw depends on
    ``seed`` and the index alone, so it does not matter in which order the requests of a burst are handled.
    """

    def __init__(
        self,
        *,
        schedule: Mapping[int, Fault] | Sequence[Fault | None] = (),
        probability: float = 0.0,
        kinds: Sequence[Fault] = tuple(sorted(RETRIED)),
        seed: int = 0,
    ) -> None:
        if not 0 <= probability <= 1 or (probability > 0 and not kinds):
            raise ValueError(f"probability {probability} must lie in [0, 1], with at least one kind of fault to draw")
        listed = schedule.items() if isinstance(schedule, Mapping) else enumerate(schedule)
        self._schedule = {index: fault for index, fault in listed if fault is not None}
        self._probability = probability
        self._kinds = tuple(kinds)
        self._seed = seed
        self._next: deque[Fault] = deque()

    def fail_next(self, fault: Fault, count: int = 1) -> None:
        """Let the next ``count`` requests fail; this comes before schedule and chance."""
        self._next.extend([fault] * count)

    def draw(self, index: int) -> Fault | None:
        """What goes wrong with request number ``index``; None for nothing."""
        if self._next:
            return self._next.popleft()
        if index in self._schedule:
            return self._schedule[index]
        if self._probability == 0:
            return None
        chance = random.Random(f"{self._seed}/{index}")
        return chance.choice(self._kinds) if chance.random() < self._probability else None
