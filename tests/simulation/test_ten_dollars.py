"""400 concurrent requests, a cap of $10 and $0.0525 reserved for each: the cap holds, it is used up, nothing leaks."""

import random
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_recovery_worlds import reborn_at

from apprentice.errors import BudgetExhausted
from apprentice.testing import Reply
from apprentice.testing.faults import Fault
from apprentice.testing.folding import refold
from apprentice.testing.world import Options, SimulatedWorld, Traffic, simulate, truth

CAP_ND = 10_000_000_000
EACH_ND = 52_500_000
BILLED = (Fault.refusal, Fault.max_tokens, Fault.not_json, Fault.cut_body, Fault.cut_connection, Fault.slow)
FREE = (Fault.server_error, Fault.rate_limited, Fault.overloaded, Fault.unauthorized, Fault.unavailable)
ONE_TASK = "task/task_0"
DOLLARS = Decimal(10**9)


def options(**more) -> Options:
    config = {"budget": {"daily": "10.00"}, **more.pop("config", {})}
    task = {"confidence_thresholds": {"phase1_to_phase2": 100_000}, "max_output_tokens": 64, "deadline_s": 120}
    traffic = more.pop("traffic", Traffic(requests=400, burst=400))
    return Options(config=config, task=task, reserved_nd=EACH_ND, traffic=traffic, latency_s=(0.05, 2.0), **more)


def priced(world: SimulatedWorld, seed: int, dearest: int) -> None:
    """Answers of random length, up to ``dearest`` tokens of input; only the length makes the price."""
    chance = random.Random(seed)

    def answer(given):
        return Reply(output=truth(given), input_tokens=chance.randint(dearest // 2, dearest), output_tokens=0)

    world.teaches = answer


async def used_up(world: SimulatedWorld, runtime) -> int:
    """Ask on until the cap itself refuses; what was spent then, by the runtime and by the log alike."""
    await runtime.settled()
    for begin in range(10_000, 13_000, 50):
        asked = await world.drive(runtime, Traffic(requests=50, burst=50, gap_s=0.3), begin=begin)
        if any("is exhausted until" in str(one.error) for one in asked):  # by what is spent, not by what is set aside
            break
    else:
        raise AssertionError("3,000 more requests did not reach the cap")
    await runtime.settled()
    _, spend = refold(world.memory.scan())
    assert spend.reservations == {} == runtime._spend.reservations
    assert runtime.report().money.reserved == "0.00"
    spent = spend.spent_since(0)
    assert spent == runtime._spend.spent_since(0)
    assert CAP_ND - EACH_ND < spent <= CAP_ND
    assert Decimal(runtime.report().money.spent) * DOLLARS == spent
    return spent


def test_exact_prices_fill_the_cap_to_the_last_whole_call():
    async def program(world):
        world.teaches = lambda given: Reply(output=truth(given), input_tokens=17_500, output_tokens=0)
        async with world.open() as runtime:
            asked = await world.drive(runtime)
            answered = [one for one in asked if one.error is None]
            assert len(answered) == 190, "190 calls cost $9.975, and one more would be over"
            assert {type(one.error) for one in asked} == {type(None), BudgetExhausted}
            await runtime.settled()
            assert runtime.report().money.reserved == "0.00"
            assert await used_up(world, runtime) == 190 * EACH_ND == world.frontier.billed_nd

    simulate(program, options())


@pytest.mark.parametrize("seed", range(3))
def test_prices_below_the_reservation_fill_the_cap_too(seed):
    async def program(world):
        priced(world, seed, 17_500)
        async with world.open() as runtime:
            await world.drive(runtime)
            assert await used_up(world, runtime) == world.frontier.billed_nd

    simulate(program, options(seed=seed))


TROUBLES = {
    "seed": st.integers(0, 10_000),
    "teachers": st.integers(1, 3),
    "weighted": st.booleans(),
    "hedge_after_s": st.sampled_from([None, 0.5]),
    "gone": st.sampled_from([0.0, 0.3]),
    "faults": st.sampled_from([0.0, 0.3]),
    "kinds": st.sets(st.sampled_from(BILLED + FREE), min_size=1, max_size=4),
    "crashes": st.lists(st.tuples(st.integers(0, 60), st.sampled_from(["conflict", "lost", "doubtful"])), max_size=2),
}


def in_trouble(seed, teachers, weighted, hedge_after_s, gone, faults, kinds, crashes):
    """Several teachers, weights and hedging included: each paid call has a reservation of its own."""

    async def program(world):
        priced(world, seed, 10_000)  # the dearest of the three teachers takes $0.05 for that
        world.log.stream = ONE_TASK
        async with world.open() as runtime:
            world.log.faults = {world.log.appends + offset: kind for offset, kind in crashes}
            await world.drive(runtime)
            await world.clock.sleep(600.0)  # until whoever died is back, and every circuit may be tried again
            await runtime.settled()
            assert runtime._spend.spent_since(0) <= CAP_ND
            assert runtime._spend.reservations == {}
            world.log.faults.clear()
            for frontier in world.frontiers:
                frontier._faults = type(frontier._faults)()
            spent = await used_up(world, runtime)
            assert sum(frontier.billed_nd for frontier in world.frontiers) <= spent

    traffic = Traffic(requests=400, burst=400, impatient=gone, patience_s=2.0)
    simulate(
        program,
        options(
            seed=seed,
            teachers=teachers,
            teacher={"weight": 1} if weighted else {},
            config={"remote": {"hedge_after_s": hedge_after_s}},
            fault_probability=faults,
            fault_kinds=tuple(sorted(kinds)),
            traffic=traffic,
        ),
    )


@settings(max_examples=4, deadline=None)
@given(**TROUBLES)
def test_the_same_with_calls_cancelled_failing_or_crashing_in_between(**trouble):
    in_trouble(**trouble)


@pytest.mark.heavy
@settings(max_examples=60, deadline=None)
@given(**TROUBLES)
def test_the_same_in_many_more_worlds(**trouble):
    in_trouble(**trouble)


@pytest.mark.parametrize("seed", range(2))
def test_the_same_when_the_process_dies_in_between(seed):
    """The second process goes on with what the log holds; dangling calls stand at their full reservation."""

    async def program(world):
        priced(world, seed, 10_000)
        old = await world.open()
        await reborn_at(world, old, world.options.traffic, 0.2 + 0.7 * seed)
        async with world.open() as runtime:
            assert runtime._spend.reservations == {}
            await world.drive(runtime, world.options.traffic, begin=1_000)
            await used_up(world, runtime)
        await old.close()

    simulate(program, options(seed=seed, teachers=2, config={"remote": {"hedge_after_s": 0.5}}))
