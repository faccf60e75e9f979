"""Sampling: the target's shape, the slope, what a rate notices."""

import pytest

from apprentice_actors.policy.sampling import (
    applied_rate,
    detect_floor,
    held_correlation,
    information,
    noticeable_drop,
    noticed_within,
    target_rate,
)


@pytest.mark.parametrize("decay", ["exponential", "linear", "step"])
def test_the_target_is_one_at_graduation_and_the_floor_at_perfection(decay):
    assert target_rate(0.85, 0.85, 0.02, decay) == 1.0
    assert target_rate(-0.3, 0.85, 0.02, decay) == 1.0
    assert target_rate(1.0, 0.85, 0.02, decay) == pytest.approx(0.02)


def test_the_decays_differ_in_between():
    assert target_rate(0.925, 0.85, 0.04, "exponential") == pytest.approx(0.2)
    assert target_rate(0.925, 0.85, 0.04, "linear") == pytest.approx(0.52)
    assert target_rate(0.93, 0.85, 0.04, "step") == target_rate(0.95, 0.85, 0.04, "step") == pytest.approx(0.2)


@pytest.mark.parametrize("floor", [0.0, -0.1, 1.5])
def test_an_impossible_floor_is_refused(floor):
    with pytest.raises(ValueError, match="sampling floor"):
        target_rate(0.9, 0.85, floor)


def test_a_small_change_leaves_the_target_alone():
    assert held_correlation(None, 0.9, 0.05) == 0.9
    assert held_correlation(0.9, 0.94, 0.05) == 0.9
    assert held_correlation(0.9, 0.84, 0.05) == 0.84


def test_the_rate_moves_by_a_small_step_and_coaching_sets_it_to_one():
    assert applied_rate(1.0, 0.02, floor=0.02) == pytest.approx(0.95)
    assert applied_rate(0.02, 1.0, floor=0.02) == pytest.approx(0.07)
    assert applied_rate(0.04, 0.02, floor=0.02) == pytest.approx(0.02)
    assert applied_rate(0.02, 0.02, floor=0.1) == pytest.approx(0.1)
    assert applied_rate(0.02, 0.02, floor=0.02, coaching=True) == 1.0


@pytest.mark.parametrize(("rate", "delay"), [(0.02, 8740), (0.05, 3213), (0.1, 1766), (0.2, 911)])
def test_the_delay_is_near_the_simulated_one(rate, delay):
    assert noticed_within(0.10, rate, 0.95, 1000) == pytest.approx(delay, rel=0.25)


def test_the_floor_for_a_wish_keeps_the_wish():
    rate = detect_floor(0.1, 2_000, 0.9, 1000)
    assert noticed_within(0.1, rate, 0.9, 1000) == pytest.approx(2_000, abs=1)
    assert detect_floor(0.01, 10, 0.9, 1000) == 1.0


def test_the_noticeable_drop_inverts_the_delay():
    drop = noticeable_drop(5_000, 0.05, 0.9, 1000)
    assert drop is not None
    assert noticed_within(drop, 0.05, 0.9, 1000) <= 5_000 < noticed_within(drop - 1e-4, 0.05, 0.9, 1000)
    assert noticeable_drop(10, 0.02, 0.9, 1000) is None


@pytest.mark.parametrize("drop", [0.0, 0.91])
def test_an_impossible_drop_is_refused(drop):
    with pytest.raises(ValueError, match="a drop of"):
        information(drop, 0.9)


def test_an_impossible_deadline_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        detect_floor(0.1, 0, 0.9, 1000)
