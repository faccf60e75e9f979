"""Pacing in whole worlds: the same traffic audits less, money lasts longer, nothing else changes."""

from itertools import pairwise

import pytest

from apprentice.testing.world import Options, Traffic, simulate
from apprentice_events import vocabulary as v

FLOOR = 0.1
SLOW = {"min_floor": FLOOR, "decay_function": "linear"}


def course(pacing: bool, daily: str = "0.8", requests: int = 600) -> tuple[list[float], int, list[v.SpendPaced]]:
    """The audit rates at the end of each stretch, what was spent, and what the purse asked for."""

    async def program(world):
        rates = []
        async with world.open() as runtime:
            for begin in range(0, requests, 100):
                asked = await world.drive(runtime, Traffic(requests=100, settle=True), begin=begin)
                assert all(one.error is None for one in asked)
                rates.append(runtime.status("task_0").sampling_rate)
            assert runtime.report().money.reserved == "0.00"
            spent = runtime._spend.spent_since(0)
        world.memory.reopen()
        events = [record.event() for record in world.memory.scan()]
        return rates, spent, [event for event in events if isinstance(event, v.SpendPaced)]

    options = Options(
        skill=0.93,
        outcomes=("learning",),
        config={"budget": {"daily": daily, "pacing": pacing}, "sampling": SLOW},
        task={"max_output_tokens": 64, "guarantee": {"agreement": 0.8}},
    )
    return simulate(program, options)


def test_a_paced_task_audits_less_and_never_under_its_floor():
    plain, dearer, nothing = course(pacing=False)
    paced, cheaper, asked = course(pacing=True)
    assert nothing == []
    assert asked
    assert all(0.0 <= event.factor <= 1.0 for event in asked)
    assert cheaper < dearer
    assert sum(paced) < sum(plain)
    assert min(paced) >= FLOOR


def test_where_money_is_on_plan_pacing_changes_nothing():
    plain, dearer, _ = course(pacing=False, daily="1000", requests=300)
    paced, cheaper, asked = course(pacing=True, daily="1000", requests=300)
    assert (plain, dearer, []) == (paced, cheaper, asked)


@pytest.mark.parametrize("pacing", [True, False])
def test_a_restart_tells_the_factor_no_second_time(pacing):
    async def program(world):
        for begin in (0, 100, 200):
            async with world.open() as runtime:
                await world.drive(runtime, Traffic(requests=10, settle=True), begin=begin)
        world.memory.reopen()
        return [event for record in world.memory.scan() if isinstance(event := record.event(), v.SpendPaced)]

    options = Options(
        config={"budget": {"daily": "0.05", "pacing": pacing}},
        task={"max_output_tokens": 64, "confidence_thresholds": {"phase1_to_phase2": 10_000}},
    )
    told = simulate(program, options)
    factors = [1.0, *(event.factor for event in told)]
    assert all(abs(now - before) >= 0.1 for before, now in pairwise(factors))
    assert bool(told) == pacing
