"""The way of spend, savings and the remote share, told by calendar windows of the budget's own zone."""

import datetime as dt
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from apprentice.trajectory import SHOWN, trajectory
from apprentice_events import vocabulary as v
from apprentice_events.spend import SpendState


def at(text: str) -> int:
    return round(dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC).timestamp()) * 10**9


def paid(spend: SpendState, when: str, amount_nd: int, task: str = "t") -> None:
    name = f"{task}{when}{amount_nd}"
    spend.apply(task, v.BudgetReserved(request=name, attempt=1, amount_nd=10 * amount_nd), at(when))
    spend.apply(
        task, v.BudgetSettled(request=name, attempt=1, amount_nd=amount_nd, reserved_nd=10 * amount_nd), at(when)
    )
    spend.apply(task, v.ResponseServed(request=name, by="remote", output="", latency_ms=1.0), at(when))


def saved(spend: SpendState, when: str, amount_nd: int, task: str = "t") -> None:
    event = v.ResponseServed(request=when, by="local", output="", latency_ms=1.0, saved_nd=amount_nd)
    spend.apply(task, event, at(when))


def test_windows_by_hand():
    spend = SpendState()
    paid(spend, "2026-01-30T10:00", 1_000_000_000)
    paid(spend, "2026-02-02T10:00", 500_000_000)  # a Monday
    saved(spend, "2026-02-02T11:00", 250_000_000)
    saved(spend, "2026-02-03T11:00", 250_000_000, task="other")
    way = trajectory(spend, at("2026-02-03T12:00"), "t")
    assert [one.start for one in way.days] == [f"2026-{day}" for day in ("01-30", "01-31", "02-01", "02-02", "02-03")]
    assert [one.spent for one in way.days] == ["1.00", "0.00", "0.00", "0.50", "0.00"]
    assert [one.remote_share for one in way.days] == [1.0, None, None, 0.5, None]
    assert [(one.start, one.spent, one.saved) for one in way.weeks] == [
        ("2026-01-26", "1.00", "0.00"),
        ("2026-02-02", "0.50", "0.25"),
    ]
    assert [(one.start, one.remote_calls, one.answers) for one in way.months] == [
        ("2026-01-01", 1, 1),
        ("2026-02-01", 1, 2),
    ]
    everything = trajectory(spend, at("2026-02-03T12:00"))
    assert (everything.weeks[-1].saved, everything.weeks[-1].answers) == ("0.50", 3)


def test_an_empty_log_has_one_empty_window_of_each_kind():
    for way in (
        trajectory(SpendState(), at("2026-02-03T12:00")),
        trajectory(SpendState(), at("2026-02-03T12:00"), "t"),
    ):
        (day,), (week,), (month,) = way.days, way.weeks, way.months
        assert (day.start, week.start, month.start) == ("2026-02-03", "2026-02-02", "2026-02-01")
        assert (day.spent, day.answers, day.remote_share) == ("0.00", 0, None)


def test_days_follow_the_zone_of_the_budget():
    spend = SpendState(zone="Asia/Tokyo")
    paid(spend, "2026-02-02T16:00", 1_000_000_000)  # the 3rd in Tokyo
    assert trajectory(spend, at("2026-02-02T17:00")).days[-1].start == "2026-02-03"


@given(st.lists(st.tuples(st.integers(0, 90), st.integers(1, 10**9), st.booleans()), max_size=40))
def test_what_is_shown_adds_up(course):
    spend = SpendState()
    start = dt.datetime(2026, 1, 1, 9)  # noqa: DTZ001 - a wall clock in UTC
    for after, amount_nd, remote in sorted(course):
        when = (start + dt.timedelta(days=after)).isoformat()
        (paid if remote else saved)(spend, when, amount_nd)
    way = trajectory(spend, at("2026-04-01T12:00"), "t")
    assert len(way.days) <= SHOWN["day"]
    assert len(way.weeks) <= SHOWN["week"]
    assert sum(Decimal(one.spent) for one in way.months) * 10**9 == spend.of("t").spent_nd
    assert sum(Decimal(one.saved) for one in way.months) * 10**9 == spend.of("t").saved_nd
    assert sum(one.remote_calls for one in way.months) == spend.of("t").calls
    assert all(0 <= one.remote_share <= 1 for one in way.days if one.remote_share is not None)
