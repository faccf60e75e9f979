"""How spend, savings and the remote share went, by calendar windows: plain values out of the folded purse."""

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence

from apprentice.results import Trajectory, Window
from apprentice.wiring import dollars
from apprentice_events.spend import SpendState, TaskSpend, window_start

SHOWN: Mapping[str, int] = {"day": 14, "week": 8, "month": 12}
"""How many windows of each kind are told, the present one last."""


def trajectory(spend: SpendState, now_ns: int, task: str | None = None) -> Trajectory:
    """One task's way, or with None that of all together; windows before the first activity are left out."""
    totals = [spend.of(task)] if task is not None else list(spend.tasks.values())
    today = spend.day_of(now_ns)
    first = min((day for one in totals for days in _all(one) for day in days), default=today)
    found = {kind: tuple(_windows(totals, kind, first, today)) for kind in SHOWN}
    return Trajectory(days=found["day"], weeks=found["week"], months=found["month"])


def _all(one: TaskSpend) -> tuple[Mapping[int, int], ...]:
    return one.days, one.saved_days, one.call_days, one.local_days, one.remote_days


def _windows(totals: Sequence[TaskSpend], kind: str, first: int, today: int) -> Iterable[Window]:
    starts = [window_start(today, kind)]
    while len(starts) < SHOWN[kind] and starts[0] > first:
        starts.insert(0, window_start(starts[0] - 1, kind))
    for start, end in zip(starts, [*starts[1:], today + 1], strict=True):
        yield _window(totals, start, end)


def _window(totals: Sequence[TaskSpend], start: int, end: int) -> Window:
    spent, saved, calls, local, remote = (
        (
            sum(amount for days in each for day, amount in days.items() if start <= day < end)
            for each in zip(*(_all(one) for one in totals), strict=True)
        )
        if totals
        else (0, 0, 0, 0, 0)
    )
    return Window(
        start=dt.date.fromordinal(start).isoformat(),
        spent=dollars(spent),
        saved=dollars(saved),
        remote_calls=calls,
        answers=local + remote,
        remote_share=remote / (local + remote) if local + remote else None,
    )
