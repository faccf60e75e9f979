"""Certificates: how soon a good student gets one, how seldom a bad one does."""

import random
from math import exp, log
from statistics import median

import pytest

from apprentice_actors.policy.certificate import (
    STAKE_WEIGHTS,
    agreement_floor,
    certificates,
    certified,
    comparisons_at,
    log_threshold,
    log_thresholds,
    log_wealths,
    share,
)
from apprentice_actors.policy.gate import DEFAULT_GATES
from apprentice_events.evidence import Evidence
from apprentice_events.vocabulary import EvidenceRestarted


def begun(guarantee=0.9, gates=DEFAULT_GATES, alpha=None) -> Evidence:
    evidence = Evidence()
    evidence.restart(
        EvidenceRestarted(
            epoch=1,
            reason="test",
            guarantee=guarantee,
            alpha=share(0.05, 1) if alpha is None else alpha,
            gates=gates,
            window_size=100,
            false_alarm_every=1000,
        )
    )
    return evidence


def compare(evidence, loss, weight=1.0, band=0) -> None:
    booked = evidence.bands[band]
    booked.count += 1
    booked.weight += weight
    booked.loss += weight * loss


def until_certified(guarantee, agreement, rng, limit) -> int:
    evidence = begun(guarantee, gates=(0.5,), alpha=0.05)
    for count in range(1, limit):
        compare(evidence, float(rng.random() >= agreement))
        if log_wealths(evidence)[0] >= log_threshold(evidence):
            return count
    return limit


def test_the_shares_of_all_epochs_sum_to_alpha():
    assert sum(share(0.05, epoch) for epoch in range(1, 20_000)) == pytest.approx(0.05, rel=1e-3)
    assert sum(STAKE_WEIGHTS) == pytest.approx(1.0)
    with pytest.raises(ValueError, match="epochs count from 1"):
        share(0.05, 0)


@pytest.mark.parametrize(("guarantee", "at_most"), [(0.80, 40), (0.90, 80), (0.95, 160)])
def test_a_faultless_student_is_certified_soon(guarantee, at_most):
    evidence = begun(guarantee)
    for _ in range(at_most):
        compare(evidence, 0.0, band=1)
    assert len(certified(evidence)) == len(DEFAULT_GATES) - 1
    assert comparisons_at(evidence, DEFAULT_GATES[1]) == at_most


@pytest.mark.parametrize(
    ("guarantee", "agreement", "published"),
    [(0.90, 0.98, 65), (0.95, 0.99, 133), (0.90, 0.95, 182)],
)
def test_the_median_cost_of_a_certificate_is_the_published_one(guarantee, agreement, published):
    rng = random.Random(5)
    found = median(until_certified(guarantee, agreement, rng, 1_000) for _ in range(60))
    assert 0.7 * published <= found <= 1.35 * published


def test_a_student_just_at_the_guarantee_is_hardly_ever_certified():
    rng = random.Random(11)
    false = 0
    for _ in range(150):
        evidence = begun(0.8, gates=(0.9, 0.7, 0.5, 0.0))
        for count in range(500):
            compare(evidence, float(rng.random() < 0.2), band=rng.randrange(4))
            if count % 10 == 9 and certified(evidence):
                false += 1
                break
    assert false <= 12  # alpha is 3.04%: 4.6 expected at most, four standard deviations above


def test_the_parts_sum_to_the_share_and_favour_the_middle_of_the_grid():
    thresholds = log_thresholds(begun(gates=(0.9, 0.7, 0.5, 0.2)))
    parts = [exp(-threshold) for threshold in thresholds.values()]
    assert sum(parts) == pytest.approx(share(0.05, 1))
    assert parts == pytest.approx([part * share(0.05, 1) / 6 for part in (1, 2, 2, 1)])


def test_a_certified_step_hands_its_part_to_the_next_looser_then_to_the_next_tighter_one():
    evidence = begun(gates=(0.9, 0.7, 0.5))
    whole = -log(share(0.05, 1))
    assert log_thresholds(evidence) == pytest.approx({0.9: whole + log(4), 0.7: whole + log(2), 0.5: whole + log(4)})
    assert log_thresholds(evidence, [0.7]) == pytest.approx({0.9: whole + log(4), 0.5: whole + log(4 / 3)})
    assert log_thresholds(evidence, [0.7, 0.5]) == pytest.approx({0.9: whole})
    assert log_thresholds(evidence, [0.9, 0.7, 0.5]) == {}


def test_what_is_handed_on_counts_at_the_same_look():
    evidence = begun(gates=(0.9, 0.5))
    even = log_threshold(evidence)
    while log_wealths(evidence)[0] < even:
        compare(evidence, 0.0, band=0)
    compare(evidence, 1.0, weight=0.05, band=1)
    tight, loose = certificates(evidence)
    assert (tight.gate, loose.gate) == (0.9, 0.5)
    assert (tight.threshold, loose.threshold) == pytest.approx((even, even - log(2)))
    assert loose.threshold <= loose.wealth < even
    assert certified(evidence, [0.9, 0.5]) == ()


def test_a_long_bad_start_can_be_outgrown():
    evidence = begun(0.9, gates=(0.5,))
    for _ in range(2_000):
        compare(evidence, 1.0)
    assert certified(evidence) == ()
    for _ in range(30_000):
        compare(evidence, 0.0)
    assert certified(evidence) == (0.5,)


def test_the_floor_of_agreement_is_the_largest_guarantee_that_would_be_certified():
    evidence = begun(0.9, gates=(0.5,))
    assert agreement_floor(evidence, 0.5) == pytest.approx(0.0, abs=1e-6)
    assert agreement_floor(evidence, None) == 0.0
    while not certified(evidence):
        compare(evidence, 0.0)
    assert 0.9 <= agreement_floor(evidence, 0.5) < 0.905
    compare(evidence, 1.0)
    assert agreement_floor(evidence, 0.5) < 0.9


def test_before_the_first_epoch_nothing_is_certified():
    assert certified(Evidence()) == ()
    assert log_thresholds(Evidence()) == {}
    assert agreement_floor(Evidence(), 0.5) == 0.0
