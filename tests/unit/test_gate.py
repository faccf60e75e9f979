"""The gate: opens step by step, falls at once."""

import pytest
from test_evidence import begun

from apprentice_actors.policy.gate import DEFAULT_GATES, check_gates, next_gate, trial_gate
from apprentice_events.evidence import Seen


@pytest.mark.parametrize(
    ("current", "certified", "after"),
    [
        (None, (), None),
        (None, (0.7, 0.9), 0.9),
        (0.9, (0.9, 0.7, 0.5), 0.7),
        (0.7, (0.9, 0.7, 0.5), 0.5),
        (0.5, (0.9, 0.7, 0.5), 0.5),
        (0.5, (0.9, 0.7), 0.9),
        (0.5, (), None),
    ],
)
def test_the_gate_moves(current, certified, after):
    assert next_gate(current, certified) == after


def fill(evidence, band, scores) -> None:
    start = evidence.comparisons
    evidence.bands[band].window = [Seen(start + index, score, 0.0, 1.0) for index, score in enumerate(scores, 1)]
    evidence.comparisons += len(scores)


def test_the_gate_on_trial_is_the_loosest_that_agrees_as_guaranteed():
    evidence = begun(gates=(0.9, 0.7, 0.5), guarantee=0.8, window_size=20)
    fill(evidence, 0, [1.0] * 10)
    fill(evidence, 1, [0.0] + [1.0] * 4)
    fill(evidence, 2, [0.0] * 5)
    assert trial_gate(evidence, 0.8) == 0.7
    assert trial_gate(evidence, 0.99) == 0.9
    assert trial_gate(evidence, 0.5) == 0.5


def test_nothing_is_on_trial_before_half_a_window():
    evidence = begun(gates=(0.9,), window_size=20)
    fill(evidence, 0, [1.0] * 9)
    assert trial_gate(evidence, 0.8) is None
    fill(evidence, 0, [0.0] * 10)
    assert trial_gate(evidence, 0.8) is None


def test_a_grid_is_checked_with_the_reason():
    assert check_gates(DEFAULT_GATES) is None
    assert "1 to 20 steps" in (check_gates(()) or "")
    assert "[0, 1]" in (check_gates((1.2,)) or "")
    assert "without repeats" in (check_gates((0.5, 0.5)) or "")
