"""Whether a reservation fits under every cap."""

import datetime as dt

import pytest

from apprentice_actors.policy.budget import Blocked, Fits, Waits, applying, judge_reservation, share_used
from apprentice_actors.settings import Cap, PurseSettings
from apprentice_events import vocabulary as v
from apprentice_events.spend import SpendState

NOON = int(dt.datetime(2026, 3, 4, 12, tzinfo=dt.UTC).timestamp()) * 10**9
DAY = Cap(window="day", limit_nd=100)
MINE = Cap(window="month", limit_nd=60, task="t")


def purse(*caps: Cap) -> PurseSettings:
    return PurseSettings(caps=caps)


def spent(amount_nd: int, reserved_nd: int = 0, task: str = "t") -> SpendState:
    spend = SpendState()
    spend.apply(task, v.BudgetSettled(request="s", attempt=1, amount_nd=amount_nd, reserved_nd=0), NOON)
    spend.apply(task, v.BudgetReserved(request="r", attempt=1, amount_nd=reserved_nd), NOON)
    return spend


def judge(spend: SpendState, amount_nd: int, *caps: Cap, task: str = "t"):
    return judge_reservation(spend, purse(*caps), task, amount_nd, NOON)


def test_without_caps_everything_fits():
    assert judge(spent(10**18), 10**18) == Fits()


@pytest.mark.parametrize(("amount", "kind"), [(50, Fits), (51, Waits), (70, Waits), (71, Blocked)])
def test_exactly_the_limit_fits_and_one_more_waits_or_is_blocked(amount, kind):
    verdict = judge(spent(30, 20), amount, DAY)
    assert isinstance(verdict, kind)
    if kind is not Fits:
        assert verdict.cap == DAY
        assert verdict.reopens == dt.datetime(2026, 3, 5, tzinfo=dt.UTC)


def test_a_refusal_by_any_cap_wins_over_waiting():
    verdict = judge(spent(50, 30), 25, DAY, MINE)
    assert isinstance(verdict, Blocked)
    assert (verdict.cap, verdict.spent_nd) == (MINE, 50)
    assert verdict.reopens == dt.datetime(2026, 4, 1, tzinfo=dt.UTC)


def test_a_cap_of_another_task_does_not_apply():
    assert judge(spent(59), 10, MINE, task="u") == Fits()
    assert applying([DAY, MINE], "u") == [DAY]


def test_what_other_tasks_spent_counts_for_the_common_cap_alone():
    assert isinstance(judge(spent(95, task="u"), 10, DAY), Blocked)
    assert judge(spent(95, task="u"), 10, MINE) == Fits()


def test_shares():
    assert share_used(spent(80), DAY, NOON) == 0.8
    assert share_used(spent(0), Cap(window="day", limit_nd=0), NOON) == 1.0
