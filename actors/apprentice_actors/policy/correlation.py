"""Correlation of the student with its teacher: agreement corrected for chance, estimated on a rolling window.

``(A - E) / (1 - E)`` with A the mean score and E the mean score over mismatched pairs; for exact match on one field it
is Cohen's kappa (Cohen 1960). Means are weighted by ``1 / q`` (Horvitz & Thompson 1952, in Hajek's ratio form), bounds
are Wilson's (1927) at Kish's effective sample size ``(sum w)^2 / sum w^2``.
"""

from itertools import chain
from math import sqrt
from operator import itemgetter

import msgspec

from apprentice_events.evidence import Evidence

SPREAD_MIN = 0.3
"""Least ``1 - E`` at which correcting for chance says more than agreement does."""
CLASSES_MAX = 20
"""Most classes with which correcting for chance is still worth its noise."""
_ordinal = itemgetter(0)  # comparing whole named tuples takes several times as long
Z_BOUND = 1.2816
"""Standard normal quantile of the bounds: each holds with 90% confidence at one look."""


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """What a window of comparisons says."""

    count: int
    effective: float
    """Equally weighted comparisons that would tell as much."""
    agreement: float
    chance: float

    def informative(self, classes: int | None = None) -> bool:
        """Whether the correction for chance is to be used; otherwise agreement stands in for correlation."""
        return 1.0 - self.chance >= SPREAD_MIN and (classes is None or classes <= CLASSES_MAX)


class Correlation(msgspec.Struct, frozen=True, kw_only=True):
    """A correlation with its bounds; ``corrected`` is False where plain agreement stands in for it."""

    value: float
    lower: float
    upper: float
    corrected: bool
    settled: bool
    """Whether the window is at least half full, so that thresholds may act."""


def window(evidence: Evidence, gate: float | None) -> Estimate | None:
    """The last ``window_size`` comparisons whose ``p_agree`` clears ``gate`` (all of them for None); None if none."""
    bands = evidence.bands if gate is None else evidence.bands[: sum(step >= gate for step in evidence.gates)]
    seen = sorted(chain.from_iterable(band.window for band in bands), key=_ordinal)[-evidence.window_size :]
    if not seen:
        return None
    weight = sum(one.weight for one in seen)
    return Estimate(
        count=len(seen),
        effective=weight * weight / sum(one.weight * one.weight for one in seen),
        agreement=sum(one.weight * one.score for one in seen) / weight,
        chance=sum(one.weight * one.chance for one in seen) / weight,
    )


def correlation(estimate: Estimate, window_size: int, classes: int | None = None) -> Correlation:
    """Chance-corrected agreement where it is informative, else agreement; ``classes`` is None where not countable.

    The bounds carry the uncertainty of A; that of E is smaller by about the four mismatched pairs per comparison.
    """
    lower, upper = wilson(estimate.agreement, estimate.effective)
    corrected = estimate.informative(classes)
    chance = estimate.chance if corrected else 0.0
    return Correlation(
        value=beyond_chance(estimate.agreement, chance),
        lower=beyond_chance(lower, chance),
        upper=beyond_chance(upper, chance),
        corrected=corrected,
        settled=2 * estimate.count >= window_size,
    )


def beyond_chance(agreement: float, chance: float) -> float:
    """``(A - E) / (1 - E)``: 1 for perfect agreement, 0 for a guesser, negative for one that diverges; E below 1."""
    return (agreement - chance) / (1.0 - chance)


def wilson(mean: float, count: float, z: float = Z_BOUND) -> tuple[float, float]:
    """Wilson's score interval for a mean of values in [0, 1] over ``count`` (possibly fractional) observations."""
    spread = z * z / count
    centre = (mean + spread / 2) / (1 + spread)
    half = z / (1 + spread) * sqrt(max(mean * (1 - mean), 0.0) / count + spread / (4 * count))
    return max(centre - half, 0.0), min(centre + half, 1.0)
