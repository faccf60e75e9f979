"""Certificates: which gate steps have shown agreement at or above the guarantee, however often one looks.

**The bet.** For a fixed stake ``0 < c < 1``, comparisons with losses L and weights ``w = r / q``, the wealth is

    exp(log(1 - c) * sum(w L) - log(1 - epsilon c) * sum(w))

For losses of 0 and 1 at weight 1 this is the bet ``1 + b (epsilon - L)`` with ``b = c / (1 - epsilon c)`` of
Waudby-Smith & Ramdas, "Estimating means of bounded random variables by betting" (JRSSB 2024); between them
``(1 - c)^L <= 1 - c L`` keeps it below the bet. A request at rate r whose risk is m multiplies the wealth in mean by at
most ``1 + r b (epsilon - m)``, since ``x^r <= 1 + r (x - 1)``, whether it is always compared at weight r or, by a coin
of probability r, at weight 1. With b constant the product of those means stays under 1 for as long as the running mean
of the risk, each request weighted by the audit rate at its coin, is epsilon or more, under any drift and any rule for
the rate. A mixture over stakes therefore reaches ``1/a`` with probability at most ``a`` (Ville).

**The steps.** The share of an epoch is first split over the gate steps, most for the middle of the grid, where most
students pass first. A step that is certified hands its part to the next looser one that is not: Bretz, Maurer,
Brannath & Posch (Statistics in Medicine 2009); the chance of any false certificate stays within the share. The shares
of all epochs sum to alpha.
"""

from collections.abc import Iterable
from math import exp, log, log1p, pi
from typing import NamedTuple

from apprentice_events.evidence import Band, Evidence

STAKES = (0.99, 0.85, 0.7, 0.55, 0.4, 0.28, 0.18, 0.1, 0.05)
"""Bets; the best for risk m against epsilon is ``(epsilon - m) / (epsilon (1 - m))``."""
STAKE_WEIGHTS = (0.20, 0.10, 0.15, 0.17, 0.14, 0.10, 0.07, 0.04, 0.03)
"""How the starting capital of 1 is spread over the stakes: the boldest decides how soon a faultless student passes."""
_BETS = tuple((stake, log1p(-stake), log(weight)) for stake, weight in zip(STAKES, STAKE_WEIGHTS, strict=True))
_BISECTIONS = 30


class Passed(NamedTuple):
    """A step that reached its threshold; ``wealth`` and ``threshold`` are natural logarithms."""

    gate: float
    wealth: float
    threshold: float
    comparisons: int


def share(alpha: float, epoch: int) -> float:
    """The part of the error budget that epoch 1, 2, … may spend: ``6 alpha / (pi^2 j^2)``; all parts sum to alpha."""
    if epoch < 1:
        raise ValueError(f"share of the error budget: epoch is {epoch}, but epochs count from 1")
    return 6.0 * alpha / (pi * epoch) ** 2


def log_threshold(evidence: Evidence) -> float:
    """Natural logarithm of the wealth that an even part of the epoch's share asks for: ``log(K / share)``.

    The measure of :func:`agreement_floor`; certificates are issued by :func:`log_thresholds`.
    """
    return log(len(evidence.gates) / evidence.alpha)


def log_thresholds(evidence: Evidence, held: Iterable[float] = ()) -> dict[float, float]:
    """Log wealth at which each step that is not in ``held`` is certified, given what the held ones hand on."""
    steps, certified_steps = evidence.gates, frozenset(held)
    parts = _first_parts(steps)
    for index, step in enumerate(steps):
        heir = _heir(steps, index, certified_steps) if step in certified_steps else None
        if heir is not None:
            parts[heir] += parts[step]
    return {step: -log(part * evidence.alpha) for step, part in parts.items() if step not in certified_steps}


def log_wealths(evidence: Evidence) -> list[float]:
    """Natural logarithm of each step's mixture wealth, tightest step first."""
    bets, weight, loss, wealths = _bets(1.0 - evidence.guarantee), 0.0, 0.0, []
    for band in evidence.bands[: len(evidence.gates)]:
        weight += band.weight
        loss += band.loss
        wealths.append(_log_mixture(weight, loss, bets))
    return wealths


def certificates(evidence: Evidence, held: Iterable[float] = ()) -> tuple[Passed, ...]:
    """The steps that pass now beside those ``held``, in the order in which they do; what they hand on counts at once.

    A certificate once issued stays valid when the wealth falls later, so the caller remembers what was issued.
    """
    certified_steps = set(held)
    wealths = dict(zip(evidence.gates, log_wealths(evidence), strict=True))
    if max(wealths.values(), default=0.0) < -log(evidence.alpha or 1.0):
        return ()  # not even the whole share would do
    passed: list[Passed] = []
    while True:
        thresholds = log_thresholds(evidence, certified_steps)
        gate = next((step for step, threshold in thresholds.items() if wealths[step] >= threshold), None)
        if gate is None:
            return tuple(passed)
        certified_steps.add(gate)
        passed.append(Passed(gate, wealths[gate], thresholds[gate], comparisons_at(evidence, gate)))


def certified(evidence: Evidence, held: Iterable[float] = ()) -> tuple[float, ...]:
    """The gates of :func:`certificates`."""
    return tuple(passed.gate for passed in certificates(evidence, held))


def evidence_at(evidence: Evidence, gate: float) -> tuple[float, float]:
    """Weighted count and weighted loss of this epoch's comparisons at or above ``gate``."""
    bands = _bands_within(evidence, gate)
    return sum(band.weight for band in bands), sum(band.loss for band in bands)


def comparisons_at(evidence: Evidence, gate: float) -> int:
    """How many comparisons of this epoch cleared ``gate``."""
    return sum(band.count for band in _bands_within(evidence, gate))


def agreement_floor(evidence: Evidence, gate: float | None) -> float:
    """Anytime lower bound on the agreement of answers at or above ``gate``; 0 for a closed gate.

    The largest guarantee that this evidence would certify at an even part of the epoch's share. Stakes do not depend on
    epsilon, so one event of small probability excludes every bound that fails: it holds for all times and all steps.
    """
    if gate is None or not evidence.gates:
        return 0.0
    weight, loss = evidence_at(evidence, gate)
    threshold = log_threshold(evidence)
    low, high = 0.0, 1.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if _log_mixture(weight, loss, _bets(1.0 - middle)) >= threshold:
            low = middle
        else:
            high = middle
    return low


def _first_parts(steps: tuple[float, ...]) -> dict[float, float]:
    """Parts of 1 that rise evenly from both ends of the grid to its middle."""
    parts = {step: float(min(index + 1, len(steps) - index)) for index, step in enumerate(steps)}
    total = sum(parts.values())
    return {step: part / total for step, part in parts.items()}


def _heir(steps: tuple[float, ...], index: int, certified: frozenset[float]) -> float | None:
    """The next looser step without a certificate; behind the last one, the loosest of the tighter ones; else None."""
    order = (*steps[index + 1 :], *reversed(steps[:index]))
    return next((step for step in order if step not in certified), None)


def _bands_within(evidence: Evidence, gate: float) -> list[Band]:
    return [band for band, step in zip(evidence.bands, evidence.gates, strict=False) if step >= gate]


type _Bets = list[tuple[float, float, float]]
"""Per stake: log capital, log factor of a loss of 1, log of what a weight of 1 is divided by."""


def _bets(epsilon: float) -> _Bets:
    return [(capital, kept, log1p(-epsilon * stake)) for stake, kept, capital in _BETS]


def _log_mixture(weight: float, loss: float, bets: _Bets) -> float:
    if weight <= 0.0:
        return 0.0
    terms = [capital + loss * kept - weight * due for capital, kept, due in bets]
    top = max(terms)
    return top + log(sum([exp(term - top) for term in terms]))
