"""What the events cost, by task and calendar day."""

import datetime as dt
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apprentice_events import vocabulary as v
from apprentice_events.spend import SpendState, day_of, window_reopens, window_start

NOON = int(dt.datetime(2026, 3, 4, 12, tzinfo=dt.UTC).timestamp()) * 10**9
DAY_NS = 86_400 * 10**9
NAIVE = dt.datetime(2020, 1, 1)  # noqa: DTZ001 - hypothesis wants bounds without a zone
TODAY = dt.date(2026, 3, 4).toordinal()


def reserve(spend: SpendState, name: str, amount_nd: int, time_ns: int = NOON, task: str = "t") -> None:
    spend.apply(task, v.BudgetReserved(request=name, attempt=1, amount_nd=amount_nd), time_ns)


def settle(spend: SpendState, name: str, amount_nd: int, time_ns: int = NOON, task: str = "t") -> None:
    spend.apply(task, v.BudgetSettled(request=name, attempt=1, amount_nd=amount_nd, reserved_nd=0), time_ns)


def test_a_settlement_belongs_to_the_day_of_its_reservation():
    spend = SpendState()
    reserve(spend, "r", 100)
    assert (spend.reserved_since(TODAY), spend.spent_since(TODAY)) == (100, 0)
    settle(spend, "r", 30, NOON + DAY_NS)
    assert (spend.reserved_since(0), spend.spent_since(TODAY), spend.spent_since(TODAY + 1)) == (0, 30, 0)


def test_a_release_gives_everything_back():
    spend = SpendState()
    reserve(spend, "r", 100)
    spend.apply("t", v.BudgetReleased(request="r", attempt=1, reserved_nd=100, reason=""), NOON)
    assert (spend.reserved_since(0), spend.spent_since(0), spend.of("t").calls) == (0, 0, 0)


def test_a_reservation_told_twice_counts_once_and_the_later_time_holds():
    spend = SpendState()
    reserve(spend, "r", 100)
    reserve(spend, "r", 100, NOON + DAY_NS)
    assert (spend.reserved_since(TODAY), spend.reserved_since(TODAY + 1)) == (100, 100)


def test_tasks_are_apart_and_together():
    spend = SpendState()
    for task, amount in (("a", 1), ("b", 10)):
        reserve(spend, task, 50, task=task)
        settle(spend, task, amount, task=task)
    assert (spend.spent_since(0), spend.spent_since(0, "a"), spend.spent_since(0, "b")) == (11, 1, 10)


def test_training_and_savings_count():
    spend = SpendState()
    trained = v.AdapterTrained(job="j", version="t@v1", parent=None, manifest="", examples=1, seconds=1.0, cost_nd=7)
    spend.apply("t", trained, NOON)
    spend.apply("t", v.ResponseServed(request="r", by="local", output="", latency_ms=1.0, saved_nd=5), NOON)
    totals = spend.of("t")
    assert (totals.spent_nd, totals.training_nd, totals.saved_nd, totals.saved_days) == (7, 7, 5, {TODAY: 5})


def test_a_tasks_own_stream_has_the_last_word():
    spend, folded = SpendState(), SpendState()
    reserve(spend, "granted, never written", 100)
    reserve(spend, "another's", 3, task="u")
    reserve(folded, "r", 9)
    settle(folded, "r", 4)
    spend.take_over("t", folded)
    assert (spend.reserved_since(0), spend.spent_since(0, "t")) == (3, 4)


def test_old_days_are_forgotten_but_not_their_sum():
    spend = SpendState()
    for day in range(500):
        settle(spend, f"{day}", 1, NOON + day * DAY_NS)
    assert len(spend.of("t").days) == 400
    assert spend.of("t").spent_nd == 500


@given(st.datetimes(NAIVE, NAIVE.replace(year=2040)), st.sampled_from(["day", "week", "month"]))
def test_a_window_reopens_when_the_next_one_begins(moment, window):
    for zone in ("UTC", "Europe/Berlin", "Australia/Lord_Howe"):
        local = moment.replace(tzinfo=ZoneInfo(zone))
        time_ns = int(local.timestamp()) * 10**9
        day = day_of(time_ns, zone)
        reopens = window_reopens(day, window, zone)
        reopens_ns = int(reopens.timestamp()) * 10**9
        assert reopens_ns > time_ns
        assert window_start(day_of(reopens_ns, zone), window) == day_of(reopens_ns, zone)
        assert window_start(day_of(reopens_ns - 1, zone), window) == window_start(day, window)


@pytest.mark.parametrize(("zone", "hours"), [("Europe/Berlin", 23), ("UTC", 24)])
def test_the_day_of_summer_time_is_short(zone, hours):
    day = dt.date(2026, 3, 29).toordinal()
    start = window_reopens(day - 1, "day", zone)
    assert window_reopens(day, "day", zone) - start == dt.timedelta(hours=hours)
