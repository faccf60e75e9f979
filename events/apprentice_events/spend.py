"""What money the events amount to: spent and reserved per task and calendar day, savings, totals.

A call's cost belongs to the day of its reservation, so that a cap of that day cannot be passed by a late settlement.
Amounts are integer nano-dollars. The fold is in place; days older than 400 are merged into the totals.
"""

import datetime as dt
from zoneinfo import ZoneInfo

import msgspec

from . import vocabulary as v

_HOUR_NS = 3_600_000_000_000
_DAYS_KEPT = 400


MONEY = (
    v.BudgetReserved,
    v.BudgetSettled,
    v.BudgetReleased,
    v.ResponseServed,
    v.LocalAnswered,
    v.AdapterTrained,
)
"""The events that :meth:`SpendState.apply` does not pass over."""
MONEY_TAGS = tuple(event.TAG for event in MONEY)


class Reservation(msgspec.Struct, kw_only=True):
    """Money set aside for one paid call."""

    task: str
    day: int
    amount_nd: int


class TaskSpend(msgspec.Struct, kw_only=True):
    """The totals of one task."""

    spent_nd: int = 0
    saved_nd: int = 0
    training_nd: int = 0
    local_nd: int = 0
    """Local compute."""
    calls: int = 0
    days: dict[int, int] = msgspec.field(default_factory=dict)
    """Spent per day (proleptic ordinal in the configured zone)."""
    saved_days: dict[int, int] = msgspec.field(default_factory=dict)
    call_days: dict[int, int] = msgspec.field(default_factory=dict)
    """Paid calls that were settled, on the day of their reservation."""
    local_days: dict[int, int] = msgspec.field(default_factory=dict)
    """Answers that the local model gave the caller."""
    remote_days: dict[int, int] = msgspec.field(default_factory=dict)
    """Answers that the remote model gave the caller."""


class SpendState(msgspec.Struct, kw_only=True):
    """The fold over all tasks' streams. ``zone`` names the calendar that the windows follow."""

    zone: str = "UTC"
    tasks: dict[str, TaskSpend] = msgspec.field(default_factory=dict)
    reservations: dict[str, Reservation] = msgspec.field(default_factory=dict)
    """Open reservations under ``request#attempt``."""

    def apply(self, task: str, event: v.Event, time_ns: int) -> None:
        """Fold one event of ``task``; events that move no money are passed over."""
        kind = type(event)
        if kind is v.ResponseServed:
            self._served(task, event, time_ns)  # type: ignore[arg-type]  # narrowed by identity, for speed
        elif kind is v.BudgetReserved:
            self._reserve(task, event, time_ns)  # type: ignore[arg-type]
        elif kind is v.BudgetSettled:
            self._settle(task, event, time_ns)  # type: ignore[arg-type]
        elif kind is v.BudgetReleased:
            self.reservations.pop(f"{event.request}#{event.attempt}", None)  # type: ignore[attr-defined]
        elif kind is v.LocalAnswered:
            self._computed(task, event.cost_nd, time_ns)  # type: ignore[attr-defined]
        elif kind is v.AdapterTrained:
            self._trained(task, event, time_ns)  # type: ignore[arg-type]

    def day_of(self, time_ns: int) -> int:
        """The day's ordinal in the configured zone."""
        return day_of(time_ns // _HOUR_NS * _HOUR_NS if self.zone == "UTC" else time_ns, self.zone)

    def of(self, task: str) -> TaskSpend:
        """The totals of ``task`` to be read; asking leaves nothing behind."""
        return self.tasks.get(task) or TaskSpend()

    def _own(self, task: str) -> TaskSpend:
        """The totals of ``task`` to be changed."""
        return self.tasks.setdefault(task, TaskSpend())

    def spent_since(self, day: int, task: str | None = None) -> int:
        """Settled spend from ``day`` on, of one task or all."""
        chosen = self.tasks.values() if task is None else [self.of(task)]
        return sum(amount for one in chosen for when, amount in one.days.items() if when >= day)

    def reserved_since(self, day: int, task: str | None = None) -> int:
        """Open reservations made from ``day`` on, of one task or all."""
        return sum(
            one.amount_nd for one in self.reservations.values() if one.day >= day and (task is None or one.task == task)
        )

    def take_over(self, task: str, folded: "SpendState") -> None:
        """Let ``folded``, made from the task's stream alone, have the last word on that task's money."""
        for name in [name for name, held in self.reservations.items() if held.task == task]:
            del self.reservations[name]
        self.reservations.update(folded.reservations)
        if task in folded.tasks:
            self.tasks[task] = folded.tasks[task]
        else:
            self.tasks.pop(task, None)

    def _served(self, task: str, event: v.ResponseServed, time_ns: int) -> None:
        totals, day = self._own(task), self.day_of(time_ns)
        _add(totals.local_days if event.by == "local" else totals.remote_days, day, 1)
        if event.saved_nd:
            totals.saved_nd += event.saved_nd
            _add(totals.saved_days, day, event.saved_nd)

    def _reserve(self, task: str, event: v.BudgetReserved, time_ns: int) -> None:
        self.reservations[f"{event.request}#{event.attempt}"] = Reservation(
            task=task, day=self.day_of(time_ns), amount_nd=event.amount_nd
        )

    def _settle(self, task: str, event: v.BudgetSettled, time_ns: int) -> None:
        held = self.reservations.pop(f"{event.request}#{event.attempt}", None)
        totals = self._own(task)
        day = held.day if held is not None else self.day_of(time_ns)
        totals.calls += 1
        _add(totals.call_days, day, 1)
        self._spend(totals, event.amount_nd, day)

    def _computed(self, task: str, amount_nd: int, time_ns: int) -> None:
        if amount_nd:
            totals = self._own(task)
            totals.local_nd += amount_nd
            self._spend(totals, amount_nd, self.day_of(time_ns))

    def _trained(self, task: str, event: v.AdapterTrained, time_ns: int) -> None:
        if event.cost_nd:
            totals = self._own(task)
            totals.training_nd += event.cost_nd
            self._spend(totals, event.cost_nd, self.day_of(time_ns))

    def _spend(self, totals: TaskSpend, amount_nd: int, day: int) -> None:
        totals.spent_nd += amount_nd
        _add(totals.days, day, amount_nd)


def _add(days: dict[int, int], day: int, amount: int) -> None:
    days[day] = days.get(day, 0) + amount
    if len(days) > _DAYS_KEPT:
        del days[min(days)]


_day_cache: dict[tuple[str, int], int] = {}


def day_of(time_ns: int, zone: str) -> int:
    """The proleptic ordinal of the calendar day of ``time_ns`` (UTC) in ``zone``."""
    key = (zone, time_ns // (_HOUR_NS // 4))  # offsets are multiples of a quarter of an hour
    day = _day_cache.get(key)
    if day is None:
        if len(_day_cache) > 4096:
            _day_cache.clear()
        moment = dt.datetime.fromtimestamp(key[1] * 900, tz=ZoneInfo(zone))
        day = _day_cache[key] = moment.date().toordinal()
    return day


def window_start(day: int, window: str) -> int:
    """The first day of the ``day``, ``week`` (Monday) or ``month`` that ``day`` lies in."""
    date = dt.date.fromordinal(day)
    if window == "week":
        return day - date.weekday()
    if window == "month":
        return date.replace(day=1).toordinal()
    return day


def window_reopens(day: int, window: str, zone: str) -> dt.datetime:
    """The UTC instant at which the next window begins (midnight of the zone's calendar)."""
    start = dt.date.fromordinal(window_start(day, window))
    if window == "week":
        following = start + dt.timedelta(days=7)
    elif window == "month":
        following = (start + dt.timedelta(days=32)).replace(day=1)
    else:
        following = start + dt.timedelta(days=1)
    return dt.datetime.combine(following, dt.time(), tzinfo=ZoneInfo(zone)).astimezone(dt.UTC)
