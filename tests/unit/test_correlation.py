"""Correlation: kappa on a window, its bounds, and when agreement stands in."""

import pytest
from test_evidence import begun

from apprentice_actors.policy.correlation import Estimate, beyond_chance, correlation, wilson, window
from apprentice_events.evidence import Evidence, Seen


def estimate(agreement=0.9, chance=0.5, count=100, effective=100.0) -> Estimate:
    return Estimate(count=count, effective=effective, agreement=agreement, chance=chance)


def test_correlation_is_cohens_kappa():
    assert beyond_chance(0.7, 0.5) == pytest.approx(0.4)
    assert beyond_chance(0.5, 0.5) == 0.0
    assert beyond_chance(0.2, 0.5) < 0.0
    assert correlation(estimate(0.7, 0.5), 100).value == pytest.approx(0.4)


def test_agreement_stands_in_where_the_correction_says_little():
    skewed = correlation(estimate(0.95, 0.8), 100)
    assert (skewed.value, skewed.corrected) == (0.95, False)
    many = correlation(estimate(0.9, 0.013), 100, classes=77)
    assert (many.value, many.corrected) == (0.9, False)
    assert correlation(estimate(0.9, 0.5), 100, classes=20).corrected


def test_thresholds_act_from_half_a_window_on():
    assert not correlation(estimate(count=49), 100).settled
    assert correlation(estimate(count=50), 100).settled


def test_bounds_enclose_the_value_and_follow_the_effective_size():
    sharp, blunt = correlation(estimate(effective=100.0), 100), correlation(estimate(effective=10.0), 100)
    assert blunt.lower < sharp.lower < sharp.value < sharp.upper < blunt.upper <= 1.0


@pytest.mark.parametrize(("mean", "low", "high"), [(0.5, 0.4038, 0.5962), (1.0, 0.9630, 1.0), (0.0, 0.0, 0.0370)])
def test_wilson_at_the_textbook_values(mean, low, high):
    assert wilson(mean, 100, z=1.96) == pytest.approx((low, high), abs=1e-4)


def test_the_window_holds_the_last_comparisons_at_or_above_the_gate():
    evidence = begun(gates=(0.9, 0.5), window_size=3)
    evidence.bands[0].window = [Seen(1, 0.0, 0.1, 1.0), Seen(4, 1.0, 0.1, 1.0)]
    evidence.bands[1].window = [Seen(2, 0.0, 0.1, 1.0), Seen(5, 1.0, 0.1, 1.0)]
    evidence.bands[2].window = [Seen(3, 0.0, 0.1, 1.0)]
    tight, loose, every = window(evidence, 0.9), window(evidence, 0.5), window(evidence, None)
    assert tight is not None
    assert loose is not None
    assert every is not None
    assert (tight.count, tight.agreement) == (2, 0.5)
    assert loose.agreement == pytest.approx(2 / 3)
    assert every.agreement == pytest.approx(2 / 3)
    assert window(Evidence(), None) is None


def test_the_window_weighs_by_inverse_probability():
    evidence = begun(gates=(0.5,))
    evidence.bands[0].window = [Seen(1, 0.0, 0.0, 1.0), Seen(2, 1.0, 0.4, 3.0)]
    found = window(evidence, 0.5)
    assert found is not None
    assert (found.agreement, found.chance) == pytest.approx((0.75, 0.3))
    assert found.effective == pytest.approx(16 / 10)
