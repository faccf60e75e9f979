"""How often answers above the gate are audited, and what a given rate would notice how soon.

Detection delays follow from the e-detector's drift: once the risk has risen by d, each audit adds the mean logarithm of
the best of its K bets, and it alarms at ``log(A K)`` (Lorden 1971; Shin, Ramdas & Rinaldo 2024). ``CAUTION`` scales the
mean delay to one that 90% of cases keep, as simulated.
"""

from math import exp, inf, log, log1p
from math import floor as whole
from typing import Literal

from apprentice_events.evidence import SHIFT_ALTERNATIVES, bet_on

type Decay = Literal["exponential", "linear", "step"]

RATE_STEP_MAX = 0.05
"""The most the applied rate moves per comparison."""
CAUTION = 1.7
"""Ratio of the delay that holds in 90% of cases to the mean delay."""
DECAY_STEPS = 4
"""Stairs of the ``step`` decay, evenly spaced between graduation and perfect correlation."""


def target_rate(correlation: float, graduation: float, floor: float, decay: Decay = "exponential") -> float:
    """The audit rate to move towards: 1 at graduation or below, ``floor`` at correlation 1.

    ``step`` is piecewise constant; the applied rate climbs down its stairs continuously, by :func:`applied_rate`.
    """
    if not 0.0 < floor <= 1.0:
        raise ValueError(f"sampling floor is {floor}; it must lie above 0 and at most at 1, such as 0.02")
    if correlation <= graduation:
        return 1.0
    progress = min((correlation - graduation) / (1.0 - graduation), 1.0) if graduation < 1.0 else 1.0
    if decay == "linear":
        return 1.0 - (1.0 - floor) * progress
    if decay == "step":
        progress = whole(progress * DECAY_STEPS + 1e-9) / DECAY_STEPS
    return max(floor, exp(progress * log(floor)))


def held_correlation(before: float | None, now: float, trend_sensitivity: float) -> float:
    """The correlation that the target answers to: a change under ``trend_sensitivity`` leaves it where it was."""
    return now if before is None or abs(now - before) >= trend_sensitivity else before


def applied_rate(before: float, target: float, *, floor: float, coaching: bool = False) -> float:
    """The rate after one comparison: at most ``RATE_STEP_MAX`` nearer to the target; 1 while coaching."""
    if coaching:
        return 1.0
    moved = min(max(target, before - RATE_STEP_MAX), before + RATE_STEP_MAX)
    return min(max(moved, floor), 1.0)


def information(drop: float, guarantee: float) -> float:
    """Nats that one audit adds in mean to the detector's best sum, ``drop`` below the guarantee.

    At most ``KL(epsilon + drop || epsilon)``, and near it for drops within the detector's reach.
    """
    epsilon = 1.0 - guarantee
    risk = epsilon + drop
    if not (0.0 < epsilon < 1.0 and drop > 0.0 and risk <= 1.0):
        raise ValueError(
            f"a drop of {drop} below a guarantee of {guarantee} leaves no agreement in [0, 1); "
            f"ask for a drop above 0 and at most {guarantee}"
        )
    bets = [bet_on(multiple, guarantee) for multiple in SHIFT_ALTERNATIVES]
    return max(risk * log1p(bet * guarantee) + (1.0 - risk) * log1p(-bet * epsilon) for bet in bets)


def detect_floor(drop: float, within: int, guarantee: float, false_alarm_every: int) -> float:
    """The smallest audit rate at which agreement ``drop`` under the guarantee is noticed ``within`` requests (90%)."""
    if within < 1:
        raise ValueError(f"detect.within is {within} requests; it must be at least 1")
    gain = information(drop, guarantee)
    return min(1.0, CAUTION * _needed(false_alarm_every) / (within * gain)) if gain > 0.0 else 1.0


def noticed_within(drop: float, rate: float, guarantee: float, false_alarm_every: int) -> float:
    """After how many locally served requests such a drop is noticed in 90% of cases, at audit rate ``rate``.

    Infinite for a drop so small that the fast detector does not tell it from noise; the slow one may.
    """
    gain = information(drop, guarantee)
    return whole(CAUTION * _needed(false_alarm_every) / (rate * gain)) + 1 if gain > 0.0 else inf


def noticeable_drop(within: int, rate: float, guarantee: float, false_alarm_every: int) -> float | None:
    """The smallest drop noticed ``within`` requests at audit rate ``rate``; None where even total failure is not."""
    if noticed_within(guarantee, rate, guarantee, false_alarm_every) > within:
        return None
    low, high = 0.0, guarantee
    for _ in range(30):
        middle = (low + high) / 2
        if noticed_within(middle, rate, guarantee, false_alarm_every) <= within:
            high = middle
        else:
            low = middle
    return high


def _needed(false_alarm_every: int) -> float:
    return log(false_alarm_every * len(SHIFT_ALTERNATIVES))
