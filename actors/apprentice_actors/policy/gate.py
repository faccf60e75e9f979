"""The gate: the step of ``p_agree`` at which local answers begin to be served.

Steps are listed tightest (highest) first; None is a closed gate. A gate in force is always a certified step.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise

from apprentice_events.evidence import Evidence

from .correlation import window

DEFAULT_GATES = (0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5, 0.35, 0.0)
"""The default grid; at the last step everything is served, for a student that agrees throughout."""


def next_gate(current: float | None, certified: Iterable[float]) -> float | None:
    """The gate after this comparison, given the steps whose certificates hold.

    From a certified gate (or a closed one) it moves one certified step towards the loosest. A gate whose certificate is
    gone falls at once to the tightest step that still has one, or closes.
    """
    steps = sorted(certified, reverse=True)
    if not steps or (current is not None and current not in steps):
        return steps[0] if steps else None
    looser = [step for step in steps if current is None or step < current]
    return looser[0] if looser else current


def trial_gate(evidence: Evidence, guarantee: float) -> float | None:
    """The gate on trial before graduation: the loosest step whose window is half full and agrees as guaranteed."""
    for gate in reversed(evidence.gates):
        estimate = window(evidence, gate)
        if estimate is None or 2 * estimate.count < evidence.window_size:
            return None
        if estimate.agreement >= guarantee:
            return gate
    return None


def check_gates(gates: Sequence[float]) -> str | None:
    """Why ``gates`` is no grid, in words; None if it is one: falling steps within [0, 1], at most 20."""
    if not 1 <= len(gates) <= 20:
        return f"a gate grid has 1 to 20 steps, this one has {len(gates)}"
    if any(not 0.0 <= step <= 1.0 for step in gates):
        return f"gate steps are probabilities in [0, 1], but the grid is {list(gates)}"
    if any(later >= earlier for earlier, later in pairwise(gates)):
        return f"gate steps run from tightest (highest) to loosest without repeats, but the grid is {list(gates)}"
    return None
