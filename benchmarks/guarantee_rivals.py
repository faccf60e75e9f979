"""What others would have said to the same audits: bounds and means that are looked at again and again, and detectors.

Certifiers say when the answers are good enough, monitors when they no longer are. All see one loss after the other,
0 for agreement and 1 for disagreement. ADWIN (Bifet & Gavaldà 2007) and Page-Hinkley (Page 1954) come from ``river``,
with its defaults.
"""

import math
from collections import deque
from collections.abc import Callable
from typing import Protocol

from benchmarks.guarantee_worlds import EPSILON

Z = 1.96
"""Standard normal quantile of a two-sided 95% interval."""
ROLLING = 100
TAKEN_IN_ADVANCE = 30
"""Losses before Wilson's bound is believed; with fewer it is not meant to be used."""


class Watcher(Protocol):
    """A certifier or a monitor."""

    def update(self, loss: float) -> bool:
        """Take in one loss; whether it now certifies, or raises the alarm."""
        ...


class WilsonCertifier:
    """Wilson's lower 95% bound over everything so far reaches the guarantee."""

    def __init__(self) -> None:
        self.count, self.losses = 0, 0.0

    def update(self, loss: float) -> bool:
        """Whether the bound is there now."""
        self.count += 1
        self.losses += loss
        return self.count >= TAKEN_IN_ADVANCE and wilson_risk(self.losses, self.count)[1] <= EPSILON


class WilsonMonitor(WilsonCertifier):
    """Wilson's upper 95% bound over everything since graduation falls under the guarantee."""

    def update(self, loss: float) -> bool:
        """Whether it has fallen now."""
        super().update(loss)
        return self.count >= TAKEN_IN_ADVANCE and wilson_risk(self.losses, self.count)[0] > EPSILON


class RollingCertifier:
    """The mean of the last 100 reaches the guarantee."""

    def __init__(self) -> None:
        self._window: deque[float] = deque(maxlen=ROLLING)
        self._sum = 0.0

    def mean(self, loss: float) -> float | None:
        """The mean with ``loss`` taken in; None until there are 100."""
        if len(self._window) == ROLLING:
            self._sum -= self._window[0]
        self._window.append(loss)
        self._sum += loss
        return self._sum / ROLLING if len(self._window) == ROLLING else None

    def update(self, loss: float) -> bool:
        """Whether the mean is there now."""
        mean = self.mean(loss)
        return mean is not None and mean <= EPSILON + 1e-9


class RollingMonitor(RollingCertifier):
    """The mean of the last 100 falls under the guarantee."""

    def update(self, loss: float) -> bool:
        """Whether it has fallen now."""
        mean = self.mean(loss)
        return mean is not None and mean > EPSILON + 1e-9


class AdwinMonitor:
    """ADWIN cuts its window and the losses after the cut are higher."""

    def __init__(self) -> None:
        from river.drift import ADWIN

        self._detector = ADWIN()

    def update(self, loss: float) -> bool:
        """Whether it cut now."""
        before = self._detector.estimation
        self._detector.update(loss)
        return bool(self._detector.drift_detected) and self._detector.estimation > before


class PageHinkleyMonitor:
    """Page-Hinkley's sum of losses above their mean passes its threshold."""

    def __init__(self) -> None:
        from river.drift import PageHinkley

        self._detector = PageHinkley(mode="up")

    def update(self, loss: float) -> bool:
        """Whether it passed now."""
        self._detector.update(loss)
        return bool(self._detector.drift_detected)


WILSON, ROLLING_MEAN, ADWIN, PAGE_HINKLEY = "Wilson bound", "rolling mean", "ADWIN", "Page-Hinkley"
CERTIFIERS: dict[str, Callable[[], Watcher]] = {WILSON: WilsonCertifier, ROLLING_MEAN: RollingCertifier}


def monitors() -> dict[str, Callable[[], Watcher]]:
    """The monitors that are installed."""
    found: dict[str, Callable[[], Watcher]] = {WILSON: WilsonMonitor, ROLLING_MEAN: RollingMonitor}
    try:
        import river.drift  # noqa: F401  # only whether it is there
    except ImportError:
        return found
    return {**found, ADWIN: AdwinMonitor, PAGE_HINKLEY: PageHinkleyMonitor}


def wilson_risk(losses: float, count: int) -> tuple[float, float]:
    """Wilson's 95% interval of the mean loss."""
    mean, spread = losses / count, Z * Z / count
    centre = (mean + spread / 2.0) / (1.0 + spread)
    half = Z / (1.0 + spread) * math.sqrt(mean * (1.0 - mean) / count + spread / (4.0 * count))
    return centre - half, centre + half
