"""What holds of every course a task can take: the rate has no jumps, looking moves nothing, a fall can be mended."""

from math import log

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apprentice import reading
from apprentice_actors.policy.sampling import RATE_STEP_MAX, target_rate
from apprentice_actors.review import RULES
from apprentice_events import vocabulary as v
from apprentice_events.spend import SpendState
from benchmarks.guarantee_worlds import Course, TaskWorld
from benchmarks.policy_sim import play

unit = st.floats(0.0, 1.0)
levels = st.floats(0.0, 1.0)
seeds = st.integers(0, 10_000)
decays = st.sampled_from(["exponential", "linear", "step"])


@given(unit, unit, st.floats(0.5, 0.95), st.floats(0.005, 1.0), st.sampled_from(["exponential", "linear"]))
def test_a_small_change_of_correlation_changes_the_target_by_no_more_than_its_slope(
    one, other, graduation, floor, decay
):
    steepest = (-log(floor) if decay == "exponential" else 1.0 - floor) / (1.0 - graduation)
    moved = target_rate(one, graduation, floor, decay) - target_rate(other, graduation, floor, decay)
    assert abs(moved) <= steepest * abs(one - other) + 1e-9


@given(st.floats(0.5, 0.95), st.floats(0.005, 1.0), decays, st.floats(0.0, 1e-6))
def test_the_target_is_the_same_on_both_sides_of_graduation(graduation, floor, decay, step):
    before = target_rate(graduation - step, graduation, floor, decay)
    assert before == 1.0
    assert target_rate(graduation + step, graduation, floor, decay) == pytest.approx(before, abs=1e-3)


def course(seed, *stretches, slope=0.0):
    """A task whose level is each of ``stretches`` (level, requests) in turn."""
    moves = [level for level, requests in stretches for _ in range(requests)]
    return TaskWorld(Course(family="property", levels=moves, slope=slope), seed)


@settings(max_examples=6, deadline=None)
@given(seeds, st.floats(0.97, 1.0), st.floats(0.7, 1.0), decays)
def test_the_rate_moves_by_small_steps_and_leaps_to_one_only_where_that_is_told(seed, first, then, decay):
    world = course(seed, (first, 350), (then, 250))
    rules = msgspec.structs.replace(world.settings(), decay=decay)
    before = 1.0
    for note in play(rules, world, 600).notes:
        match note.event:
            case v.CoachingStarted():
                before = 1.0
            case v.SamplingRateChanged(before=stated, after=after):
                assert stated == before
                assert after >= rules.min_floor
                back = after == 1.0 and note.event.reason == "no certified gate step is left"
                assert abs(after - before) <= RATE_STEP_MAX + 1e-9 or back
                before = after


@settings(max_examples=6, deadline=None)
@given(seeds, levels, levels, st.integers(1, 500))
def test_looking_at_a_task_in_any_state_any_number_of_times_changes_nothing(seed, first, then, requests):
    world = course(seed, (first, 300), (then, 200))
    rules, spend = world.settings(), SpendState()
    state = play(rules, world, requests).state
    before, said = msgspec.json.encode(state), reading.status(state, rules, spend, 0)
    for _ in range(3):
        assert reading.status(state, rules, spend, 0) == said
        assert all(rule(state, rules).events == () for rule in RULES)
    assert msgspec.json.encode(state) == before


def _mends(seed, low, length) -> None:
    """A student that is at ``low`` for ``length`` requests is sent back, and serves again after it is good again."""
    world = course(seed, (0.98, 700), (low, length), (0.98, 1_500))
    played = play(world.settings(), world, len(world.course.levels))
    phases = [(at, event.after) for at, event in played.events(v.PhaseChanged)]
    assert any(after == "reinforcement" and 700 <= at < 700 + length for at, after in phases[1:]), phases
    assert played.state.phase == "steady_state"
    assert played.state.gate is not None
    assert "quality" not in played.state.alerts


@pytest.mark.parametrize(("seed", "low", "length"), [(0, 0.0, 400), (6788, 0.27, 493)])
def test_a_student_that_is_sent_back_and_recovers_serves_again(seed, low, length):
    _mends(seed, low, length)


@pytest.mark.heavy
@settings(max_examples=60, deadline=None)
@given(seeds, st.floats(0.0, 0.5), st.integers(500, 1_200))
def test_any_student_that_recovers_serves_again(seed, low, length):
    _mends(seed, low, length)
