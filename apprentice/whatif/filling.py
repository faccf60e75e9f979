"""What was not compared, drawn from what was: comparisons of like confidence from about the same time.

An audit's coin heeds neither input nor answer, so audited answers speak for the others of their time and band of
``p_agree``. Each missing pair is drawn from the nearest comparisons of its band, with odds ``1 / q`` times a weight
that is drawn anew for every run (the Bayesian bootstrap, Rubin 1981). At a low audit rate these are few, so some that
nobody made stand among them: they come out as the whole band does, and a little as the local model itself expects,
for a band that never disagreed so far may yet. Over the runs, the draws spread as far as the comparisons leave open.
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from math import log
from typing import NamedTuple

from apprentice.whatif.recorded import Asked

NEAREST = 20
"""Comparisons, half of them before and half after, that a missing one is drawn from."""
EXPECTED = 16
"""Comparisons that nobody made among them: they come out like any of their band, at whatever time it was made."""
DOUBT = 8.0
"""How many comparisons of a band its local model's own ``p_agree`` counts for, in what those are drawn from."""


class Pair(NamedTuple):
    """What is taken to be so of one request: the local answer's confidence, its score, and its score by chance."""

    p_agree: float
    score: float
    chance: float


class _Donor(NamedTuple):
    pair: Pair
    odds: float


class _Band:
    """The comparisons of one band in the order of the log."""

    def __init__(self, found: Sequence[Asked], differing: float, draw: Callable[[], float]) -> None:
        self._places = [one.opened_at.position for one in found]
        self._donors = [_Donor(_pair(one), _weight(draw) / one.bought_with) for one in found]
        self._expected = [_expected(found, differing, draw) for _ in range(EXPECTED if found else 0)]

    def __len__(self) -> int:
        return len(self._donors)

    def near(self, place: int, draw: Callable[[], float]) -> Pair:
        """One pair from around a place of the log."""
        at = bisect_left(self._places, place)
        first = max(0, min(at - NEAREST // 2, len(self._donors) - NEAREST))
        near = self._donors[first : first + NEAREST]
        usual = sum(one.odds for one in near) / len(near)
        near += [_Donor(one.pair, one.odds * usual) for one in self._expected]
        mark = draw() * sum(one.odds for one in near)
        for one in near:
            mark -= one.odds
            if mark < 0.0:
                return one.pair
        return near[-1].pair


class Filling:
    """One run's complete data. ``draw`` gives numbers uniform in [0, 1)."""

    def __init__(self, asked: Sequence[Asked], gates: Sequence[float], draw: Callable[[], float]) -> None:
        """``gates`` are the steps that make the bands, tightest first. Something must have been compared."""
        compared = [one for one in asked if one.compared]
        self._known = {one.id: _pair(one) for one in compared}
        self._gates = tuple(gates)
        self._draw = draw
        scores = [pair.score for pair in self._known.values() if pair.score < 1.0]
        differing = sum(scores) / len(scores) if scores else 0.0
        banded: list[list[Asked]] = [[] for _ in range(len(self._gates) + 1)]
        for one in compared:
            banded[self._index(one.p_agree or 0.0)].append(one)
        self._bands = [_Band(found, differing, draw) for found in banded]
        self._all = _Band(compared, differing, draw)

    def pair(self, asked: Asked) -> Pair:
        """The pair of a request, the same whenever it is asked for in this run."""
        known = self._known.get(asked.id)
        if known is None:
            known = self._known[asked.id] = self._drawn(asked)
        return known

    def _drawn(self, asked: Asked) -> Pair:
        if asked.p_agree is None:
            return self._all.near(asked.opened_at.position, self._draw)
        band = self._bands[self._index(asked.p_agree)]
        drawn = (band if len(band) else self._all).near(asked.opened_at.position, self._draw)
        return drawn._replace(p_agree=asked.p_agree)

    def _index(self, p_agree: float) -> int:
        return next((index for index, gate in enumerate(self._gates) if p_agree >= gate), len(self._gates))


def _pair(asked: Asked) -> Pair:
    assert asked.p_agree is not None
    assert asked.score is not None
    return Pair(asked.p_agree, asked.score, asked.chance)


def _expected(found: Sequence[Asked], differing: float, draw: Callable[[], float]) -> _Donor:
    like = _pair(found[int(draw() * len(found))])
    if draw() * (len(found) + DOUBT) < DOUBT:
        like = like._replace(score=1.0 if draw() < like.p_agree else differing)
    return _Donor(like, _weight(draw))


def _weight(draw: Callable[[], float]) -> float:
    """A standard exponential draw: normalised, such weights are uniform over all ways to weigh."""
    return -log(1.0 - draw())
