"""Detectors: seldom wrong on a steady student, quick on a collapse."""

import random
from math import log
from statistics import median

from test_evidence import begun, scored

from apprentice_actors.policy.drift import drift_verdict, shift_verdict
from apprentice_events.evidence import Evidence


def audits_to(verdict, risk, rng, limit) -> int:
    evidence = begun(guarantee=0.9, gates=(0.5,))
    for turn in range(limit):
        evidence.coin(turn, 1.0, True)
        evidence.scored(scored(turn, score=float(rng.random() >= risk), served="local"))
        if verdict(evidence).alarm:
            return turn + 1
    return limit


def test_thresholds_follow_the_promise_about_false_alarms():
    evidence = begun()
    assert shift_verdict(evidence).threshold == log(4 * 1000)
    assert drift_verdict(evidence).threshold == log(1000)
    assert not shift_verdict(evidence).alarm
    assert not drift_verdict(evidence).alarm
    assert not shift_verdict(Evidence()).alarm
    assert not drift_verdict(Evidence()).alarm


def test_a_steady_student_raises_no_alarm():
    rng = random.Random(3)
    assert all(audits_to(shift_verdict, 0.05, rng, 1_000) == 1_000 for _ in range(8))
    assert all(audits_to(drift_verdict, 0.05, rng, 1_000) == 1_000 for _ in range(8))


def test_a_collapse_is_noticed_within_a_handful_of_audits():
    rng = random.Random(4)
    assert median(audits_to(shift_verdict, 1.0, rng, 100) for _ in range(3)) == 5
    assert median(audits_to(shift_verdict, 0.3, rng, 400) for _ in range(15)) <= 60


def test_wear_is_noticed_more_slowly():
    rng = random.Random(7)
    assert median(audits_to(drift_verdict, 0.15, rng, 2_000) for _ in range(15)) <= 400


def test_at_the_tolerated_risk_false_alarms_are_rarer_than_promised():
    rng = random.Random(9)
    alarms = sum(audits_to(shift_verdict, 0.1, rng, 500) < 500 for _ in range(40))
    assert alarms <= 16  # a mean time of A = 1,000 allows at most 500 / 1,000 alarms a run in the worst case
