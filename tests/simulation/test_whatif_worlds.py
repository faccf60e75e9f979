"""What-if over whole worlds: unchanged settings go the way that was gone, changed ones come near what then happens."""

import random
from functools import cache

import msgspec
import pytest

from apprentice.testing.faults import Fault
from apprentice.testing.folding import refold
from apprentice.testing.models import two_kinds
from apprentice.testing.world import CATEGORIES, Options, SimulatedWorld, Traffic, simulate, truth
from apprentice.whatif.estimate import WhatIf, what_if
from apprentice.whatif.filling import Filling
from apprentice.whatif.recorded import Recorded
from apprentice.whatif.replaying import Replay
from apprentice.wiring import task_settings
from apprentice_actors.policy.gate import DEFAULT_GATES
from apprentice_actors.settings import TaskSettings
from apprentice_events.task_state import TaskState

LEARNING = {"outcomes": ("learning",), "skill": 0.98, "latency_s": (0.05, 0.5)}
BUSY = Traffic(requests=500, burst=10, gap_s=0.1)
WORLDS = {
    "one by one": Options(traffic=Traffic(requests=350, settle=True, gap_s=0.0)),
    "busy": Options(seed=1, traffic=BUSY, accuracy=two_kinds(0.6), **LEARNING),
    "inline": Options(seed=2, traffic=BUSY, task={"audit": "inline"}, **LEARNING),
    "asked twice": Options(seed=3, traffic=BUSY, config={"sampling": {"self_agreement_rate": 0.1}}, **LEARNING),
    "poor": Options(
        seed=4,
        traffic=BUSY,
        task={"max_output_tokens": 64, "on_exhausted": "local"},
        config={"budget": {"daily": "0.15", "pacing": True}},
        latency_s=(0.05, 0.5),
    ),
    "queued": Options(  # reservations wait for each other, so that some are granted after the task has graduated
        seed=1,
        traffic=Traffic(requests=250, burst=10),
        config={"budget": {"daily": "0.35"}},
        reserved_nd=10**8,
        latency_s=(0.05, 0.3),
    ),
    "faulty": Options(
        seed=5,
        teachers=2,
        traffic=Traffic(requests=500, burst=5, impatient=0.05, repeated=0.05),
        fault_probability=0.1,
        fault_kinds=(Fault.server_error, Fault.cut_connection, Fault.refusal, Fault.unauthorized),
        config={"remote": {"hedge_after_s": 0.3}},
        **LEARNING,
    ),
}


@cache
def played(name: str) -> tuple[Recorded, TaskState, TaskSettings]:
    """The record of a world, the state it ended in, and its settings."""
    return record(WORLDS[name])


def record(options: Options, program=None) -> tuple[Recorded, TaskState, TaskSettings]:
    async def whole(world: SimulatedWorld):
        async with world.open() as runtime:
            await (program(world, runtime) if program is not None else world.drive(runtime))
            await runtime.settled()
        world.memory.reopen()
        settings = task_settings(world.config, world.config.tasks[0])
        return list(world.memory.scan()), settings

    records, settings = simulate(whole, options)
    recorded = Recorded("task_0")
    for one in records:
        recorded.apply(one, one.event())
    return recorded, refold(records)[0]["task_0"], settings


def chance(number: int):
    return random.Random(f"what if {number}").random


def replayed(recorded: Recorded) -> Replay:
    draw = chance(0)
    replay = Replay(recorded, lambda settings: settings, Filling(recorded.asked, DEFAULT_GATES, draw), draw, price_nd=1)
    replay.run()
    return replay


def asked_what_if(name: str, runs: int = 4, **changes) -> WhatIf:
    recorded, _, settings = played(name)
    return what_if(recorded, msgspec.structs.replace(settings, **changes), chance, runs=runs)


def assert_the_same(recorded: Recorded, state: TaskState, replay: Replay) -> None:
    """Totals, evidence, phase, gate and rate: nothing of what was lived is different in the replay."""
    happened, found = recorded.happened, replay.found
    for total in happened.__struct_fields__:
        assert getattr(found, total) == getattr(happened, total), total
    for part in ("phase", "gate", "certified", "rate", "coaching", "turns", "evidence"):
        assert getattr(replay.state, part) == getattr(state, part), part


@pytest.mark.parametrize("name", WORLDS)
def test_unchanged_settings_reproduce_what_happened(name: str):
    recorded, state, _ = played(name)
    if name != "poor":
        assert recorded.happened.graduated_after is not None, "a world in which nothing is served locally shows little"
    assert recorded.happened.calls < recorded.happened.requests or name in ("poor", "faulty", "inline", "asked twice")
    assert_the_same(recorded, state, replayed(recorded))


def test_a_collapse_and_what_a_person_did_are_reproduced_too():
    async def program(world: SimulatedWorld, runtime) -> None:
        await world.drive(runtime, Traffic(requests=150, settle=True))
        world.teaches = lambda given: {"category": CATEGORIES[(CATEGORIES.index(truth(given)["category"]) + 1) % 4]}
        await world.drive(runtime, Traffic(requests=100, burst=20), begin=1000)
        world.teaches = truth
        await world.drive(runtime, Traffic(requests=250, settle=True), begin=2000)
        await runtime.operate("task_0", "reinforce")
        await world.drive(runtime, Traffic(requests=30, settle=True), begin=3000)

    options = Options(
        seed=1, local_latency_s=0.3, latency_s=(0.05, 0.4), config={"local": {"fine_tune_batch_size": 10_000}}
    )
    recorded, state, _ = record(options, program)
    assert state.evidence.epoch >= 3
    caught = [one for one in recorded.asked if one.route == "local_first" and one.phase == "reinforcement"]
    assert caught, "some were under way when the gate closed"
    assert_the_same(recorded, state, replayed(recorded))


@pytest.mark.parametrize("name", ["one by one", "busy"])
def test_an_unchanged_what_if_says_so_and_is_certain_of_the_money(name: str):
    recorded, _, _ = played(name)
    told = asked_what_if(name)
    calls, spent = told.estimated.remote_calls, told.estimated.spent
    assert told.changed == ()
    assert (calls.low, calls.high) == (recorded.happened.calls, recorded.happened.calls)
    assert spent.low == spent.high == pytest.approx(recorded.happened.spent_nd / 1e9)
    assert told.control_calls == recorded.happened.calls
    assert told.estimated == told.happened
    assert told.estimated.graduated_after is not None
    assert any("the estimate is what happened" in limit for limit in told.limits)


def test_a_higher_bar_costs_more_and_comes_later():
    told = asked_what_if("busy", guarantee=0.97)
    assert told.changed == ("guarantee: 0.9 → 0.97",)
    assert told.estimated.remote_calls.low >= told.happened.remote_calls.mean
    assert told.estimated.spent.low >= told.happened.spent.mean
    assert told.estimated.local_share.high <= told.happened.local_share.mean
    after = told.estimated.graduated_after
    assert after is None or (told.happened.graduated_after and after.low >= told.happened.graduated_after.mean)


def test_a_higher_floor_buys_more_audits_and_changes_no_answer():
    told = asked_what_if("one by one", min_floor=0.5, decay="linear")
    assert told.estimated.remote_calls.low > told.happened.remote_calls.mean
    assert told.estimated.local_share.mean == pytest.approx(told.happened.local_share.mean, abs=0.01)
    assert told.drawn > 1
    assert any("are drawn so, not recorded" in limit for limit in told.limits)


def test_the_runs_repeat_by_their_seed_and_differ_among_each_other():
    first, second = (asked_what_if("busy", min_floor=0.3, runs=3) for _ in range(2))
    assert first == second
    assert first.estimated.remote_calls.low < first.estimated.remote_calls.high


@pytest.mark.heavy
@pytest.mark.parametrize("seed", range(3))
def test_an_estimate_comes_near_what_the_other_settings_really_bring(seed: int):
    """The real run also tosses other coins and trains on other examples, so it is near, not equal."""

    def options(floor: float) -> Options:
        config = {"local": {"fine_tune_batch_size": 200}, "sampling": {"min_floor": floor}}
        kinds = two_kinds(0.7, easy=0.98, hard=0.6)
        traffic = Traffic(requests=1500, burst=5, gap_s=0.1)
        return Options(seed=seed, traffic=traffic, config=config, accuracy=kinds, **LEARNING)

    recorded, _, _ = record(options(0.02))
    real, _, settings = record(options(0.25))
    assert abs(real.happened.calls - recorded.happened.calls) > 50, "there is something to foresee"
    told = what_if(recorded, settings, chance, runs=10)
    assert told.estimated.remote_calls.mean == pytest.approx(real.happened.calls, rel=0.1)
    share = real.happened.served_local / (real.happened.served_local + real.happened.served_remote)
    assert told.estimated.local_share.low - 0.02 <= share <= told.estimated.local_share.high + 0.02


@pytest.mark.heavy
def test_the_agreement_of_answers_that_nobody_compared_lies_within_the_bounds():
    inside = 0
    for seed in range(6):
        right: dict[str, bool] = {}

        async def program(world: SimulatedWorld, runtime, right: dict[str, bool] = right) -> None:
            asked = await world.drive(runtime)
            right |= {one.request_id: one.output == truth(one.given) for one in asked if one.request_id is not None}

        kinds = two_kinds(0.7, easy=0.98, hard=0.6)
        recorded, _, settings = record(Options(seed=seed, traffic=BUSY, accuracy=kinds, **LEARNING), program)
        local = [one for one in recorded.asked if one.served == "local"]
        told = what_if(recorded, settings, chance, runs=20).happened.agreement_local
        if told is None:
            inside += 1
            continue
        exact = sum(right[one.id] for one in local) / len(local)
        inside += told.low - 1e-9 <= exact <= told.high + 1e-9
    assert inside >= 5
