"""Pacing slows audits down and never speeds them up, and never under the floor."""

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apprentice_actors import commands as c
from apprentice_actors.alerts import watch_audits
from apprentice_actors.decide import decide
from apprentice_actors.policy.pacing import ON_PLAN, elapsed_share, factor_of, pace_of, paced_rate, worth_telling
from apprentice_actors.settings import Cap, PurseSettings, TaskSettings
from apprentice_events import vocabulary as v
from apprentice_events.spend import SpendState
from apprentice_events.task_state import TaskState, evolve

SHARES = st.floats(0.0, 1.0)
NOON = int(dt.datetime(2026, 3, 4, 12, tzinfo=dt.UTC).timestamp()) * 10**9  # a Wednesday
DAY = Cap(window="day", limit_nd=100)
PACED = TaskSettings(task="t", pacing=True)


def spent(amount_nd: int, task: str = "t") -> SpendState:
    spend = SpendState()
    spend.apply(task, v.BudgetSettled(request="r", attempt=1, amount_nd=amount_nd, reserved_nd=0), NOON)
    return spend


@given(rate=SHARES, floor=st.floats(0.001, 1.0), used=st.floats(0.0, 2.0), elapsed=st.floats(0.0, 0.999999))
def test_the_rate_never_rises_and_never_goes_under_the_floor(rate, floor, used, elapsed):
    factor = factor_of(used, elapsed)
    assert 0.0 <= factor <= 1.0
    paced = paced_rate(rate, floor, factor)
    assert paced <= rate
    assert paced >= min(rate, floor)


@given(elapsed=st.floats(0.0, 0.999), used=st.floats(0.0, 1.0), more=st.floats(0.0, 1.0))
def test_who_spends_more_is_slowed_more(elapsed, used, more):
    assert factor_of(used + more, elapsed) <= factor_of(used, elapsed) + 1e-12


@pytest.mark.parametrize(
    ("used", "elapsed", "factor"),
    [(0.0, 0.0, 1.0), (0.5, 0.5, 1.0), (0.75, 0.5, 0.5), (0.5, 0.0, 0.5), (1.2, 0.9, 0.0)],
)
def test_factors_by_hand(used, elapsed, factor):
    assert factor_of(used, elapsed) == pytest.approx(factor)


def test_the_tightest_cap_of_the_task_counts():
    caps = (DAY, Cap(window="month", limit_nd=10_000), Cap(window="day", limit_nd=1, task="other"))
    pace = pace_of(spent(75), PurseSettings(caps=caps), "t", NOON)
    assert pace.factor == pytest.approx(0.5)
    assert pace.reason == "75% of the day budget is spent at 50% of its time"
    assert pace_of(spent(50), PurseSettings(caps=caps), "t", NOON) == ON_PLAN


@pytest.mark.parametrize(
    ("window", "zone", "share"),
    [
        ("day", "UTC", 0.5),
        ("day", "Asia/Tokyo", 21 / 24),
        ("week", "UTC", 2.5 / 7),
        ("month", "UTC", 3.5 / 31),
        ("month", "Europe/Berlin", (3 * 24 + 13) / (31 * 24 - 1)),  # the month in which an hour is lost
    ],
)
def test_time_is_counted_in_the_calendar_of_the_zone(window, zone, share):
    assert elapsed_share(SpendState(zone=zone), window, NOON) == pytest.approx(share)


def test_small_moves_are_no_news():
    assert not worth_telling(1.0, 0.95)
    assert worth_telling(1.0, 0.85)
    assert worth_telling(0.05, 0.0)
    assert not worth_telling(0.0, 0.0)


def told(state: TaskState, factor: float, settings: TaskSettings = PACED) -> int:
    decision = decide(state, settings, c.Paced(factor=factor, reason="because"), NOON)
    for event in decision.events:
        evolve(state, event, NOON)
    return len(decision.events)


def test_the_task_records_what_makes_a_difference_and_only_where_it_is_asked_for():
    state = TaskState(task="t")
    assert [told(state, factor) for factor in (0.95, 0.8, 0.75, 0.8, 1.0)] == [0, 1, 0, 0, 1]
    assert told(state, 0.2, TaskSettings(task="t")) == 0
    assert state.pace == 1.0


def test_without_money_for_the_floor_the_task_is_uncertified_until_there_is_some():
    state = TaskState(task="t", phase="steady_state")
    told(state, 0.0)
    (alert,) = watch_audits(state, PACED).events
    assert alert.alert == "uncertified"
    evolve(state, alert, NOON)
    assert watch_audits(state, PACED).events == ()
    told(state, 1.0)
    assert watch_audits(state, PACED).events == (v.AlertCleared(alert="uncertified"),)
