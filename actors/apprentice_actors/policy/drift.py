"""Verdicts of the two detectors over audited answers that were served locally.

Both are e-detectors (Shin, Ramdas & Rinaldo 2024): while the risk is at most epsilon, the mean number of audits to a
false alarm is at least A. Shift takes CUSUM sums, one per alternative, and alarms beyond ``log(A K)``; drift takes the
mean of Shiryaev-Roberts sums for a smaller alternative, which forget nothing, and alarms beyond A.
"""

from math import log

import msgspec

from apprentice_events.evidence import Evidence


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """A detector's statistic beside its threshold, both as natural logarithms."""

    statistic: float
    threshold: float

    @property
    def alarm(self) -> bool:
        """Whether the statistic has passed the threshold; never so before the first epoch, when both are 0."""
        return self.statistic > self.threshold


def shift_verdict(evidence: Evidence) -> Verdict:
    """Whether agreement fell suddenly: closes the gate at once and restarts the evidence."""
    return Verdict(
        statistic=max(evidence.shift, default=0.0),
        threshold=log(max(evidence.false_alarm_every, 1) * max(len(evidence.shift), 1)),
    )


def drift_verdict(evidence: Evidence) -> Verdict:
    """Whether agreement wears away slowly: starts coaching."""
    mean = sum(evidence.drift) / max(len(evidence.drift), 1)
    return Verdict(statistic=log(mean) if mean > 0.0 else 0.0, threshold=log(max(evidence.false_alarm_every, 1)))
