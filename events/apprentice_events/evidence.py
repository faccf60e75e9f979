"""What the comparisons of a task have shown so far: sufficient statistics, folded from events, nothing decided.

A comparison has a score in [0, 1] (``loss = 1 - score``), the local answer's ``p_agree``, the probability ``q`` with
which it was bound to happen, and the audit rate ``r`` in force when its coin was tossed. Two weights follow:

* ``1 / q`` undoes the selection: a window or a total weighted so speaks of requests, not of audits.
* ``r / q`` (at most 1) makes every request of one moment count alike in a bet, whether its answer lay under the gate
  (``q = 1``, weight ``r``) or was audited above it (``q = r``, weight 1 when the coin fell so, else 0): in expectation
  ``r`` either way. ``r`` is fixed before the request is seen, as a test martingale demands.

Gate steps are nested, so each comparison is booked in one *band* alone, that of the tightest step it clears. What a
step has shown is the sum over its bands, and its wealth follows from the sums of ``r / q`` and ``r / q * loss``
(:mod:`apprentice_actors.policy.certificate`): a fold costs the same for any number of steps and stakes.

Source of the detectors: Shin, Ramdas & Rinaldo, "E-detectors" (2024).
"""

from bisect import bisect_right
from heapq import heappop, heappush
from math import log1p
from typing import NamedTuple

import msgspec

from .vocabulary import EvidenceRestarted, RemoteScored

SHIFT_ALTERNATIVES = (1.5, 2.0, 3.0, 6.0)
"""Multiples of the tolerated risk that the fast detector bets on."""
DRIFT_ALTERNATIVES = (1.25,)
"""Multiples of the tolerated risk that the slow detector bets on."""
OPEN_TURNS_MAX = 4096
"""Turns held back for order's sake. Four times the usual limit on requests in flight: slow answers are not lost."""
RATE_CHANGES_MAX = 1024
"""Rate changes remembered for turns still under way; the rate moves at most once per comparison."""
STATISTIC_MAX = 1e300


class Comparison(NamedTuple):
    """One scored pair, as it is folded. ``rate`` is the audit rate at its coin, ``q`` its own probability."""

    turn: int
    rate: float
    q: float
    score: float
    chance: float
    p_agree: float
    served_local: bool


class Seen(NamedTuple):
    """A comparison as a rolling window keeps it: its ordinal, score, chance score, and weight ``1 / q``."""

    ordinal: int
    score: float
    chance: float
    weight: float


class Tally(msgspec.Struct):
    """Weighted sums over comparisons; weights are ``1 / q``, so ``agreement / weight`` estimates the mean score."""

    count: int = 0
    weight: float = 0.0
    agreement: float = 0.0
    squares: float = 0.0
    """Sum of the squared weights: ``weight^2 / squares`` equally weighted comparisons would tell as much (Kish)."""

    def add(self, score: float, weight: float) -> None:
        """Book one comparison."""
        self.count += 1
        self.weight += weight
        self.agreement += weight * score
        self.squares += weight * weight


class Band(msgspec.Struct):
    """Comparisons whose ``p_agree`` clears one gate step but no tighter one."""

    count: int = 0
    weight: float = 0.0
    """Sum of ``r / q``."""
    loss: float = 0.0
    """Sum of ``r / q * (1 - score)``."""
    window: list[Seen] = []
    """The last ``window_size`` comparisons of this band, oldest first."""


class Evidence(msgspec.Struct):
    """Statistics of one task in one epoch. Mutated in place by the fold; two rebuilds compare equal."""

    epoch: int = 0
    """0: no process was started yet, and comparisons are only counted."""
    guarantee: float = 1.0
    alpha: float = 0.0
    gates: tuple[float, ...] = ()
    window_size: int = 0
    false_alarm_every: int = 0
    bands: list[Band] = []
    """One per gate step, tightest first, and a last one for answers below every step."""
    shift: list[float] = []
    """Log statistics of the fast detector, one per alternative."""
    shift_bets: list[float] = []
    drift: list[float] = []
    """Shiryaev-Roberts statistics of the slow detector, one per alternative."""
    drift_bets: list[float] = []
    everything: Tally = msgspec.field(default_factory=Tally)
    served_local: Tally = msgspec.field(default_factory=Tally)
    """Audited answers that the caller got from the local model, or would have got without an inline audit."""
    comparisons: int = 0
    """Folded in this epoch."""
    missed: int = 0
    missed_in_a_row: int = 0
    ignored: int = 0
    """Scores that came after their turn was given up, or from before a restart."""
    last_turn: int = -1
    closed_turn: int = -1
    """Turns up to this one are closed, whatever still arrives for them."""
    open_turns: dict[int, float] = {}
    """Audited turns whose outcome is awaited, in order, each with its rate."""
    waiting: list[Comparison] = []
    """Scored pairs (a heap by turn) behind an open turn."""
    rates: list[tuple[int, float]] = []
    """First turn of each stretch of constant audit rate, ascending."""

    def restart(self, event: EvidenceRestarted) -> None:
        """Begin an epoch: empty bands, fresh detectors; whatever is under way belongs to the old one and is ignored.

        Totals over the task's life (``everything``, ``served_local``, ``missed``, ``ignored``) go on.
        Raises ``ValueError`` for a guarantee that no evidence could confirm or refute.
        """
        if not 0.0 < event.guarantee < 1.0:
            raise ValueError(
                f"evidence epoch {event.epoch}: the guaranteed agreement is {event.guarantee}; "
                "it must lie strictly between 0 and 1, such as 0.9"
            )
        self.epoch, self.guarantee, self.alpha = event.epoch, event.guarantee, event.alpha
        self.gates, self.window_size = event.gates, event.window_size
        self.false_alarm_every = event.false_alarm_every
        self.bands = [Band() for _ in range(len(event.gates) + 1)]
        self.comparisons = 0
        self.shift_bets = [bet_on(multiple, event.guarantee) for multiple in SHIFT_ALTERNATIVES]
        self.drift_bets = [bet_on(multiple, event.guarantee) for multiple in DRIFT_ALTERNATIVES]
        self.restart_detectors()
        self.closed_turn = self.last_turn
        self.open_turns.clear()
        self.waiting.clear()

    def restart_detectors(self) -> None:
        """Forget what the detectors saw: another version serves from here on, or an alarm was acted upon."""
        self.shift = [0.0] * len(SHIFT_ALTERNATIVES)
        self.restart_drift()

    def restart_drift(self) -> None:
        """Forget what the slow detector saw, once its alarm has led to coaching."""
        self.drift = [0.0] * len(DRIFT_ALTERNATIVES)

    def coin(self, turn: int, probability: float, audit: bool) -> None:
        """A request that asks a local version was routed. An audited turn stays open until scored or missed."""
        self.last_turn = turn
        if not self.rates or self.rates[-1][1] != probability:
            self.rates.append((turn, probability))
            del self.rates[:-RATE_CHANGES_MAX]
        if audit:
            self.open_turns[turn] = probability
            self._give_up_oldest()

    def scored(self, event: RemoteScored) -> None:
        """The pair of a turn was compared; it is folded once every earlier open turn is closed.

        A turn that is not open was either un-audited and then bound to be compared (its answer lay under the gate), or
        is closed already, and the score is ignored.
        """
        rate = self.open_turns.pop(event.turn, None)
        if rate is None and event.audit_probability >= 1.0 and event.turn > self.closed_turn:
            rate = self._rate_at(event.turn)
        if rate is None:
            self.ignored += 1
            return
        local = event.served == "local" or event.inline
        comparison = Comparison(
            event.turn, rate, event.audit_probability, event.score, event.chance, event.p_agree, local
        )
        if not (self.waiting or self.open_turns):
            self._fold(comparison)
            return
        heappush(self.waiting, comparison)
        self._give_up_oldest()
        self._release()

    def missed_turn(self, turn: int) -> None:
        """The comparison of an audited turn did not come about; says nothing about the student, but is counted."""
        if self.open_turns.pop(turn, None) is None:
            return
        self._count_missed()
        self._release()

    def _rate_at(self, turn: int) -> float | None:
        """The audit rate when the coin of an un-audited turn was tossed; None when that is too long ago to know."""
        index = bisect_right(self.rates, turn, key=_first_turn)
        return self.rates[index - 1][1] if index else None

    def _count_missed(self) -> None:
        self.missed += 1
        self.missed_in_a_row += 1

    def _give_up_oldest(self) -> None:
        """Keep the buffer bounded: the oldest open turn counts as missed, and what follows it may be folded."""
        if len(self.open_turns) + len(self.waiting) > OPEN_TURNS_MAX and self.open_turns:
            self.closed_turn = next(iter(self.open_turns))
            del self.open_turns[self.closed_turn]
            self._count_missed()
            self._release()

    def _release(self) -> None:
        while self.waiting:
            if self.open_turns and next(iter(self.open_turns)) < self.waiting[0].turn:
                return
            self._fold(heappop(self.waiting))

    def _fold(self, seen: Comparison) -> None:
        inverse = 1.0 / seen.q
        self.missed_in_a_row = 0
        self.everything.add(seen.score, inverse)
        if seen.served_local:
            self.served_local.add(seen.score, inverse)
        if self.epoch:
            self.comparisons += 1
            self._book(seen, inverse)
            if seen.served_local:
                self._detect(self.guarantee - seen.score)

    def _book(self, seen: Comparison, inverse: float) -> None:
        band = self._band_of(seen.p_agree)
        weight = min(1.0, seen.rate * inverse)
        band.count += 1
        band.weight += weight
        band.loss += weight * (1.0 - seen.score)
        band.window.append(Seen(self.comparisons, seen.score, seen.chance, inverse))
        if len(band.window) > self.window_size:
            del band.window[0]

    def _band_of(self, p_agree: float) -> Band:
        for band, gate in zip(self.bands, self.gates, strict=False):
            if p_agree >= gate:
                return band
        return self.bands[-1]

    def _detect(self, excess: float) -> None:
        """Update both detectors with ``excess = loss - epsilon`` of an audited answer that was served locally."""
        self.shift = [
            max(log_sum, 0.0) + log1p(bet * excess) for log_sum, bet in zip(self.shift, self.shift_bets, strict=True)
        ]
        self.drift = [
            min((1.0 + total) * (1.0 + bet * excess), STATISTIC_MAX)
            for total, bet in zip(self.drift, self.drift_bets, strict=True)
        ]


def bet_on(multiple: float, guarantee: float) -> float:
    """The bet ``b`` for which ``1 + b (loss - epsilon)`` is the likelihood ratio of risk ``multiple * epsilon``.

    For a loss of 0 or 1 it is exactly that ratio; for one in between it keeps mean 1 at risk epsilon, as an e-process
    must. The alternative stays within nine tenths of the way from epsilon to 1, where a tripled risk would pass 1.
    """
    epsilon = 1.0 - guarantee
    alternative = min(multiple * epsilon, epsilon + 0.9 * guarantee)
    return (alternative - epsilon) / (epsilon * guarantee)


def _first_turn(stretch: tuple[int, float]) -> int:
    return stretch[0]
