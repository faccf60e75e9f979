"""Certificates: which gate steps have shown agreement at or above the guarantee, however often one looks.

**One stratum.** For a fixed stake ``0 < c < 1`` and n comparisons with total loss S and running mean risk m,

    exp(S log(1 - c) - n log(1 - m c))

lies under a test martingale whatever the risk does meanwhile: ``(1 - c)^L <= 1 - c L`` bounds each step, and the
concavity of ``log(1 - x c)`` replaces the single risks by their mean. For losses of 0 and 1 it is the bet
``1 + b (m - L)`` with ``b = c / (1 - m c)`` (Waudby-Smith & Ramdas, JRSSB 2024). A mixture over stakes stays one.

**Two strata.** Answers under the gate are always compared, those above it only when the coin says so. Pooling them would
need weights that all but erase the first. Instead each keeps its own mixture, and the step's wealth is the least product
of both over all pairs of risks whose mean, weighted by the requests in each, is epsilon: the stratified
union-intersection test of election audits (Stark, "ALPHA", 2023; Spertus & Stark, 2022). The true pair is one of those at
least or lies beyond one, so by Ville's inequality a step ever reaches ``1/a`` with probability at most ``a`` while the
mean disagreement over its evidence is epsilon or more.

The share of an epoch is split evenly over the gate steps; the shares of all epochs sum to alpha.
"""

from math import exp, log, log1p, pi

from apprentice_events.evidence import Evidence, Stratum

STAKES = (0.99, 0.85, 0.7, 0.55, 0.4, 0.28, 0.18, 0.1, 0.05)
"""Bets; the best for risk m against epsilon is ``(epsilon - m) / (epsilon (1 - m))``."""
STAKE_WEIGHTS = (0.30, 0.08, 0.09, 0.10, 0.11, 0.10, 0.09, 0.08, 0.05)
"""How the starting capital of 1 is spread over the stakes: the boldest decides how soon a faultless student passes."""
_BETS = tuple((stake, log1p(-stake), log(weight)) for stake, weight in zip(STAKES, STAKE_WEIGHTS, strict=True))
_SEARCH_STEPS = 28


def share(alpha: float, epoch: int) -> float:
    """The part of the error budget that epoch 1, 2, … may spend: ``6 alpha / (pi^2 j^2)``; all parts sum to alpha."""
    if epoch < 1:
        raise ValueError(f"share of the error budget: epoch is {epoch}, but epochs count from 1")
    return 6.0 * alpha / (pi * epoch) ** 2


def log_threshold(evidence: Evidence) -> float:
    """Natural logarithm of the wealth at which a step is certified: ``log(K / share)``."""
    return log(len(evidence.gates) / evidence.alpha)


def log_wealth(evidence: Evidence, gate: float) -> float:
    """Natural logarithm of the wealth of the step ``gate``."""
    always, tossed = strata(evidence, gate)
    return _least_product(always, tossed, 1.0 - evidence.guarantee)


def certified(evidence: Evidence) -> tuple[float, ...]:
    """The gate steps whose wealth stands at or above the threshold now, tightest first.

    A certificate once issued stays valid when the wealth falls later; what was issued is for the caller to remember.
    """
    threshold = log_threshold(evidence) if evidence.gates else 0.0
    return tuple(gate for gate in evidence.gates if _reaches(evidence, gate, threshold))


def comparisons_at(evidence: Evidence, gate: float) -> int:
    """How many comparisons of this epoch cleared ``gate``."""
    return sum(stratum.count for stratum in strata(evidence, gate))


def strata(evidence: Evidence, gate: float) -> tuple[Stratum, Stratum]:
    """Requests of this epoch at or above ``gate``: those bound to be compared, and those compared by the coin."""
    always, tossed = Stratum(), Stratum()
    for band, step in zip(evidence.bands, evidence.gates, strict=False):
        if step < gate:
            break
        for total, part in ((always, band.always), (tossed, band.tossed)):
            total.requests += part.requests
            total.count += part.count
            total.loss += part.loss
    return always, tossed


def agreement_floor(evidence: Evidence, gate: float | None) -> float:
    """Anytime lower bound on the agreement of answers at or above ``gate``; 0 for a closed gate.

    Inverts the certificate at the same share of alpha: the largest guarantee that this evidence would certify.
    """
    if gate is None or not evidence.gates:
        return 0.0
    always, tossed = strata(evidence, gate)
    threshold = log_threshold(evidence)
    low, high = 0.0, 1.0
    for _ in range(20):
        middle = (low + high) / 2
        if _least_product(always, tossed, 1.0 - middle) >= threshold:
            low = middle
        else:
            high = middle
    return low


def _reaches(evidence: Evidence, gate: float, threshold: float) -> bool:
    """Whether the least product reaches ``threshold``; one point on the line under it settles most cases cheaply."""
    always, tossed = strata(evidence, gate)
    epsilon = 1.0 - evidence.guarantee
    if _log_mixture(always, epsilon) + _log_mixture(tossed, epsilon) < threshold:
        return False
    return _least_product(always, tossed, epsilon) >= threshold


def _least_product(always: Stratum, tossed: Stratum, epsilon: float) -> float:
    """Minimum over risk pairs of mean epsilon of both log mixtures' sum: a convex function of one risk."""
    requests = always.requests + tossed.requests
    if not (always.requests and tossed.requests):
        return _log_mixture(always, epsilon) + _log_mixture(tossed, epsilon)
    total = epsilon * requests

    def along(risk: float) -> float:
        other = (total - risk * tossed.requests) / always.requests
        return _log_mixture(tossed, risk) + _log_mixture(always, other)

    low = max(0.0, (total - always.requests) / tossed.requests)
    high = min(1.0, total / tossed.requests)
    for _ in range(_SEARCH_STEPS):
        left, right = low + (high - low) / 3, high - (high - low) / 3
        low, high = (low, right) if along(left) <= along(right) else (left, high)
    return along((low + high) / 2)


def _log_mixture(stratum: Stratum, risk: float) -> float:
    """Natural logarithm of the stakes' mixture wealth against a mean risk of ``risk`` or more."""
    if not stratum.count:
        return 0.0
    count, loss = stratum.count, stratum.loss
    terms = [weight + loss * kept - count * log1p(-risk * stake) for stake, kept, weight in _BETS]
    top = max(terms)
    return top + log(sum([exp(term - top) for term in terms]))
