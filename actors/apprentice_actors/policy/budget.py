"""Whether a reservation fits under every cap. Pure."""

import datetime as dt
from collections.abc import Iterable

import msgspec

from apprentice_events.spend import SpendState, window_reopens, window_start

from ..settings import Cap, PurseSettings


class Fits(msgspec.Struct, frozen=True):
    """The amount fits under all caps."""


class Waits(msgspec.Struct, frozen=True, kw_only=True):
    """It fits once other calls settle below their reservations, or in the next window."""

    cap: Cap
    reopens: dt.datetime


class Blocked(msgspec.Struct, frozen=True, kw_only=True):
    """What is spent already leaves no room in this window."""

    cap: Cap
    spent_nd: int
    reopens: dt.datetime


type Verdict = Fits | Waits | Blocked


def judge_reservation(spend: SpendState, settings: PurseSettings, task: str, amount_nd: int, now_ns: int) -> Verdict:
    """Check ``amount_nd`` for ``task`` against every cap that applies; the tightest refusal wins over waiting."""
    day = spend.day_of(now_ns)
    verdict: Verdict = Fits()
    for cap in applying(settings.caps, task):
        start = window_start(day, cap.window)
        spent = spend.spent_since(start, cap.task)
        reopens = window_reopens(day, cap.window, settings.zone)
        if spent + amount_nd > cap.limit_nd:
            return Blocked(cap=cap, spent_nd=spent, reopens=reopens)
        if spent + spend.reserved_since(start, cap.task) + amount_nd > cap.limit_nd:
            verdict = Waits(cap=cap, reopens=reopens)
    return verdict


def applying(caps: Iterable[Cap], task: str) -> list[Cap]:
    """The global caps and those of ``task``."""
    return [cap for cap in caps if cap.task is None or cap.task == task]


def share_used(spend: SpendState, cap: Cap, now_ns: int) -> float:
    """Spent share of a cap's present window, 1 and more: exhausted. A cap of zero is always exhausted."""
    if cap.limit_nd <= 0:
        return 1.0
    return spend.spent_since(window_start(spend.day_of(now_ns), cap.window), cap.task) / cap.limit_nd
