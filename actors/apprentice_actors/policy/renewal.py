"""When an epoch of evidence is worth giving up: a former student spoiled it, and a fresh one would pass sooner. Pure.

Steps are judged by the comparisons that they still need, not by what they lost. A tight step that few answers clear
has lost little to a collapse and is as far from its certificate as before; it must not keep the others waiting, which
would have to outweigh what was compared meanwhile ten times at a guarantee of 0.9.
"""

from itertools import accumulate

from apprentice_events.evidence import Evidence

from .certificate import log_thresholds, log_wealths

MARGIN = 3.0
"""Natural logarithms of wealth that a fresh epoch must save. Its smaller share of alpha costs 1.4 of them at most."""


def spoiled(evidence: Evidence) -> bool:
    """Whether no step, as it stands, would pass before the best one would from wealth 1, were all to grow alike."""
    wealths = log_wealths(evidence)
    if min(wealths, default=0.0) > -MARGIN:
        return False
    thresholds = log_thresholds(evidence).values()
    counts = accumulate(band.count for band in evidence.bands)
    steps = [(due, have, count) for due, have, count in zip(thresholds, wealths, counts, strict=False) if count]
    left = min((due - have) / count for due, have, count in steps)
    return left > min((due + MARGIN) / count for due, _, count in steps)
