"""Pacing: audits above the floor are bought more slowly when a cap's money runs out faster than its time. Pure.

What is left of the money per what is left of the time says at which speed the cap would just last. At 1 the spending
is on its linear plan or behind it, at 0 nothing is left. It is the price on sampling of dual pacing in closed form:
no step size to tune, and nothing to remember across a restart.
"""

import datetime as dt
from zoneinfo import ZoneInfo

import msgspec

from apprentice_events.spend import SpendState, window_reopens, window_start

from ..settings import PurseSettings
from .budget import applying, share_used

STEP = 0.1
"""The least change of a factor that is worth an event."""


class Pace(msgspec.Struct, frozen=True):
    """The factor in [0, 1] on the audits above the floor, and what it comes from, in words."""

    factor: float
    reason: str


ON_PLAN = Pace(1.0, "no cap is ahead of its time")


def factor_of(used: float, elapsed: float) -> float:
    """The factor for a cap of which the share ``used`` is spent when the share ``elapsed`` of its time is over."""
    if used <= elapsed:
        return 1.0
    return max(0.0, 1.0 - used) / (1.0 - elapsed)


def pace_of(spend: SpendState, settings: PurseSettings, task: str, now_ns: int) -> Pace:
    """The tightest pace that the caps of ``task`` ask for."""
    tightest = ON_PLAN
    for cap in applying(settings.caps, task):
        used, elapsed = share_used(spend, cap, now_ns), elapsed_share(spend, cap.window, now_ns)
        factor = factor_of(used, elapsed)
        if factor < tightest.factor:
            tightest = Pace(factor, f"{used:.0%} of the {cap.name} budget is spent at {elapsed:.0%} of its time")
    return tightest


def elapsed_share(spend: SpendState, window: str, now_ns: int) -> float:
    """How much of the present calendar window is over, in [0, 1)."""
    day = spend.day_of(now_ns)
    first = dt.date.fromordinal(window_start(day, window))
    begins = dt.datetime.combine(first, dt.time(), tzinfo=ZoneInfo(spend.zone)).timestamp()
    ends = window_reopens(day, window, spend.zone).timestamp()
    return min(max((now_ns / 1e9 - begins) / (ends - begins), 0.0), 1.0 - 1e-9)


def worth_telling(before: float, now: float) -> bool:
    """Whether the factor moved by a step, or nothing at all is left."""
    return abs(now - before) >= STEP or (now == 0.0 < before)


def paced_rate(rate: float, floor: float, factor: float) -> float:
    """The audit rate under a pace: the distance above ``floor`` shrinks by ``factor``; never more than ``rate``."""
    return min(rate, floor + (rate - floor) * factor) if rate > floor else rate
