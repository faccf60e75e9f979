"""When an epoch of evidence is given up."""

import pytest

from apprentice_actors.policy.certificate import log_thresholds, log_wealths
from apprentice_actors.policy.renewal import MARGIN, spoiled
from apprentice_events.evidence import Evidence
from apprentice_events.vocabulary import EvidenceRestarted, RemoteScored

GATES = (0.95, 0.8, 0.5)


def evidence_of(*rows) -> Evidence:
    """``rows`` are score, ``p_agree`` and how often."""
    evidence = Evidence()
    evidence.restart(
        EvidenceRestarted(
            epoch=1, reason="test", guarantee=0.9, alpha=0.03, gates=GATES, window_size=100, false_alarm_every=1000
        )
    )
    turn = 0
    for score, p_agree, count in rows:
        for _ in range(count):
            turn += 1
            evidence.coin(turn, 1.0, True)
            evidence.scored(
                RemoteScored(
                    request=str(turn),
                    turn=turn,
                    version="t@v1",
                    score=score,
                    chance=0.2,
                    p_agree=p_agree,
                    audit_probability=1.0,
                    served="remote",
                )
            )
    return evidence


def test_a_fresh_epoch_is_not_spoiled():
    assert not spoiled(evidence_of())
    assert not spoiled(Evidence())


@pytest.mark.parametrize("p_agree", [0.99, 0.85, 0.6])
def test_a_collapse_spoils_whatever_step_it_was_in(p_agree):
    assert spoiled(evidence_of((0.0, p_agree, 100)))


def test_a_tight_step_that_saw_little_of_the_collapse_does_not_keep_the_others_waiting():
    evidence = evidence_of((0.0, 0.97, 4), (0.0, 0.6, 200), (1.0, 0.97, 8), (1.0, 0.6, 100))
    tight, *_, loose = log_wealths(evidence)
    assert tight > -MARGIN > loose
    assert spoiled(evidence)


def test_a_tight_step_that_is_nearly_there_is_waited_for():
    evidence = evidence_of((0.0, 0.6, 100), (1.0, 0.97, 50))
    tight, *_, loose = log_wealths(evidence)
    assert loose < -MARGIN
    assert 0.0 < tight < log_thresholds(evidence)[0.95]
    assert not spoiled(evidence)
