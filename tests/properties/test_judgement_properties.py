"""Invariants of evidence, certificates, gate and rate."""

import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apprentice_actors.policy.certificate import agreement_floor, certified, log_thresholds, log_wealths
from apprentice_actors.policy.gate import next_gate
from apprentice_actors.policy.sampling import RATE_STEP_MAX, applied_rate, target_rate
from apprentice_events.evidence import Evidence
from apprentice_events.vocabulary import EvidenceRestarted, RemoteScored

GATES = (0.95, 0.9, 0.8, 0.6, 0.3)
unit = st.floats(0.0, 1.0)
turns = st.lists(st.tuples(unit, unit, st.floats(0.02, 1.0), st.booleans(), st.booleans()), max_size=40)


def begun(guarantee=0.9) -> Evidence:
    evidence = Evidence()
    evidence.restart(
        EvidenceRestarted(
            epoch=1,
            reason="test",
            guarantee=guarantee,
            alpha=0.03,
            gates=GATES,
            window_size=10,
            false_alarm_every=100,
        )
    )
    return evidence


def score(evidence, turn, row) -> None:
    value, p_agree, rate, local, missed = row
    if missed:
        evidence.missed_turn(turn)
        return
    evidence.scored(
        RemoteScored(
            request=str(turn),
            turn=turn,
            version="t@v1",
            score=value,
            chance=0.1,
            p_agree=p_agree,
            audit_probability=rate if local else 1.0,
            served="local" if local else "remote",
        )
    )


def folded(rows, order) -> Evidence:
    evidence = begun()
    for turn, row in enumerate(rows):
        evidence.coin(turn, row[2], True)
    for turn in order:
        score(evidence, turn, rows[turn])
    evidence.missed_in_a_row = 0  # counted as reports come in, so it alone depends on their order
    return evidence


@given(turns, st.randoms(use_true_random=False))
def test_the_order_of_arrival_leaves_no_trace(rows, rng):
    order = list(range(len(rows)))
    expected = folded(rows, order)
    rng.shuffle(order)
    found = folded(rows, order)
    assert found == expected
    assert found.open_turns == {}
    assert found.waiting == []


@given(turns)
def test_a_snapshot_loses_nothing(rows):
    evidence = folded(rows, range(len(rows)))
    assert msgspec.json.decode(msgspec.json.encode(evidence), type=Evidence) == evidence


@given(turns)
def test_windows_and_weights_stay_bounded(rows):
    evidence = folded(rows, range(len(rows)))
    assert all(len(band.window) <= 10 for band in evidence.bands)
    assert all(0.0 <= band.loss <= band.weight + 1e-9 <= band.count + 2e-9 for band in evidence.bands)
    assert sum(band.count for band in evidence.bands) == evidence.comparisons


@given(turns)
def test_certificates_are_those_whose_wealth_suffices(rows):
    evidence = folded(rows, range(len(rows)))
    passed = certified(evidence)
    thresholds = log_thresholds(evidence, passed)
    wealths = dict(zip(GATES, log_wealths(evidence), strict=True))
    assert all(wealths[gate] < threshold for gate, threshold in thresholds.items())
    assert all(0.0 <= agreement_floor(evidence, gate) <= 1.0 for gate in GATES)


@given(st.sampled_from([None, *GATES]), st.sets(st.sampled_from(GATES)))
def test_the_gate_in_force_is_always_certified_and_opens_one_step_at_most(current, held):
    after = next_gate(current, held)
    assert after is None if not held else after in held
    if current in held and after != current:
        assert not any(after < gate < current for gate in held)


@given(unit, unit, st.floats(0.01, 1.0), st.sampled_from(["exponential", "linear", "step"]))
def test_the_target_falls_with_correlation_and_stays_over_the_floor(one, other, floor, decay):
    low, high = sorted((one, other))
    at_low, at_high = target_rate(low, 0.85, floor, decay), target_rate(high, 0.85, floor, decay)
    assert floor - 1e-12 <= at_high <= at_low + 1e-12 <= 1.0 + 2e-12


@given(st.floats(0.02, 1.0), unit)
def test_the_rate_never_jumps(before, target):
    after = applied_rate(before, target, floor=0.02)
    assert abs(after - before) <= RATE_STEP_MAX + 1e-12
    assert abs(after - max(target, 0.02)) <= abs(before - max(target, 0.02)) + 1e-12


@pytest.mark.parametrize(("lives", "at_most"), [(70, 7), pytest.param(1_500, 45, marks=pytest.mark.heavy)])
def test_no_certificate_against_the_running_mean_even_when_rate_and_risk_chase_each_other(lives, at_most):
    """Oscillating risk, a lagging rate, answers under and above a gate: alpha is 3%, over all steps."""
    rng = random.Random(17)
    assert sum(_violates(rng) for _ in range(lives)) <= at_most


def _violates(rng) -> bool:
    evidence, rate, trust, shares = begun(0.8), 1.0, 0.9, [[0.0, 0.0] for _ in GATES]
    for turn in range(400):
        p_agree, above = (0.96, True) if rng.random() < 0.6 else (0.85, False)
        risk = (0.35 if turn // 60 % 2 else 0.05) if above else 0.2
        mean_risk = 0.6 * (0.35 if turn // 60 % 2 else 0.05) + 0.4 * 0.2
        for share, gate in zip(shares, GATES, strict=True):
            if gate <= 0.8:
                share[0] += rate * mean_risk
                share[1] += rate
        audit = rng.random() < rate
        evidence.coin(turn, rate, audit)
        if audit or not above:
            good = rng.random() >= risk
            score(evidence, turn, (float(good), p_agree, rate, above, False))
            trust += 0.1 * (good - trust)
            rate = min(1.0, max(0.05, rate + (0.05 if trust < 0.85 else -0.05)))
        if turn % 8 == 7 and any(gate <= 0.8 and shares[2][0] >= 0.2 * shares[2][1] for gate in certified(evidence)):
            return True
    return False


@pytest.mark.heavy
def test_false_certificates_over_a_long_life_stay_under_alpha():
    rng = random.Random(23)
    false = 0
    for _ in range(400):
        evidence = begun(0.9)
        for turn in range(3_000):
            evidence.coin(turn, 1.0, True)
            score(evidence, turn, (float(rng.random() >= 0.1), rng.random(), 1.0, False, False))
            if turn % 10 == 9 and certified(evidence):
                false += 1
                break
    assert false <= 400 * 0.03 + 14
