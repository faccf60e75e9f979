"""From how an answer came about to the probability that the remote model would give the same.

Signals of an answer, each larger for better ones: the score of the chosen values, the margin over the runners-up, how
far those lead the third, how similar the nearest training input is, and how often the chosen values were right so far.
A logistic regression over them is fitted on rows that the weights had not seen: held-out ones, and leave-one-out
predictions of the training rows. Its answer is kept within ``[1/(n+2), (n+1)/(n+2)]`` (rule of succession): n rows
cannot speak for more certainty than that.
"""

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from apprentice.local.features import Floats, Ranks
from apprentice.local.heads import Head, blocks

type Flags = npt.NDArray[np.bool_]

SIGNALS = 5
_PRIOR_ROWS = 4.0
"""Weight of a field's overall precision in the precision of each of its values."""
_FOLDS = 5
_RIDGE = 1.0
_STEPS_MAX = 50


class Precision(msgspec.Struct, frozen=True):
    """How often each value of a matched field was right when it was answered, as log odds."""

    log_odds: tuple[tuple[float, ...], ...]
    """Per matched head: one entry per value of a choice, a single one for other kinds."""

    @staticmethod
    def picks(heads: Sequence[Head], scores: Floats) -> list[Ranks]:
        """Which entry of each head's log odds an answer falls under."""
        return [
            block.argmax(axis=1) if head.kind == "choice" else np.zeros(len(scores), np.int64)
            for head, block in zip(heads, blocks(heads, scores), strict=True)
        ]

    @classmethod
    def measure(
        cls, heads: Sequence[Head], matched: Sequence[int], picks: Sequence[Ranks], right: Flags
    ) -> tuple["Precision", Floats]:
        """From ``right`` (rows × matched heads). Also returns each row's sum of log odds, from the other folds alone.

        Leaving out just the row itself would not do: a row that is right would then have slightly worse odds than one
        that is wrong, and a regression would learn exactly that.
        """
        fold = np.arange(len(right)) % _FOLDS
        entries: list[tuple[float, ...]] = []
        own = np.zeros(len(right))
        for column, at in enumerate(matched):
            picked, good = picks[at], right[:, column].astype(float)
            size = max(1, len(heads[at].values)) if heads[at].kind == "choice" else 1
            base = (good.sum() + 1.0) / (len(good) + 2.0)
            asked = np.bincount(picked, minlength=size)
            hits = np.bincount(picked, good, minlength=size)
            entries.append(tuple(_log_odds((hits + _PRIOR_ROWS * base) / (asked + _PRIOR_ROWS)).tolist()))
            asked_in = np.bincount(picked * _FOLDS + fold, minlength=size * _FOLDS)
            hits_in = np.bincount(picked * _FOLDS + fold, good, minlength=size * _FOLDS)
            at_row = picked * _FOLDS + fold
            hits_out, asked_out = hits[picked] - hits_in[at_row], asked[picked] - asked_in[at_row]
            own += _log_odds((hits_out + _PRIOR_ROWS * base) / (asked_out + _PRIOR_ROWS))
        return cls(tuple(entries)), own

    def total(self, matched: Sequence[int], picks: Sequence[Ranks], rows: int) -> Floats:
        """Sum of the log odds of each row's values over the matched heads."""
        total = np.zeros(rows)
        for entries, at in zip(self.log_odds, matched, strict=True):
            total = total + np.array(entries)[picks[at]]
        return total


def signals(
    heads: Sequence[Head], matched: Sequence[int], scores: Floats, similarity: Floats, log_odds: Floats
) -> Floats:
    """The signals of answers: rows × :data:`SIGNALS`."""
    product, margin, gap = np.ones(len(scores)), np.ones(len(scores)), np.ones(len(scores))
    split = blocks(heads, scores)
    for at in matched:
        if heads[at].kind != "choice":
            continue
        top = _leaders(split[at])
        product = product * np.clip(top[:, 0], 0.0, 1.0)
        lead = top[:, 0] - top[:, 1]
        weakest = lead < margin
        gap = np.where(weakest, top[:, 1] - top[:, 2], gap)
        margin = np.minimum(margin, lead)
    return np.column_stack([product, margin, gap, similarity, log_odds])


def _leaders(block: Floats) -> Floats:
    """The three highest scores of each row in descending order, padded with 0."""
    if block.shape[1] < 3:
        block = np.pad(block, ((0, 0), (0, 3 - block.shape[1])))
    top: Floats = -np.sort(-np.partition(block, -3, axis=1)[:, -3:], axis=1)
    return top


class Calibrator(msgspec.Struct, frozen=True, kw_only=True):
    """Logistic regression over standardised signals, with honest limits."""

    centre: tuple[float, ...]
    scale: tuple[float, ...]
    weights: tuple[float, ...]
    """The last one is the intercept."""
    rows: int

    @classmethod
    def fit(cls, observed: Floats, agreed: Flags) -> "Calibrator":
        """Fit by Newton's method with an L2 penalty on all but the intercept.

        One imagined disagreement with no similarity and no margin keeps answers far from all examples doubtful even
        where everything agreed so far.
        """
        stranger = np.zeros((1, observed.shape[1]))
        stranger[0, -1] = observed[:, -1].min()
        rows = np.concatenate([observed, stranger])
        outcome = np.append(agreed.astype(float), 0.0)
        centre, scale = rows.mean(axis=0), rows.std(axis=0)
        scale[scale < 1e-9] = 1.0
        weights = _fit_rising(np.column_stack([(rows - centre) / scale, np.ones(len(rows))]), outcome)
        return cls(
            centre=tuple(centre.tolist()),
            scale=tuple(scale.tolist()),
            weights=tuple(weights.tolist()),
            rows=len(observed),
        )

    def corrected(self, observed: Floats, agreed: Flags) -> "Calibrator":
        """Stretched and shifted to be right about other rows than it was fitted on: the order of answers stays.

        Fitted as the regression was, towards no change (Platt: Probabilistic Outputs for Support Vector Machines,
        1999). ``agreed`` has at least one row.
        """
        odds = self._odds(observed)
        stretch, shift = 1.0, 0.0
        for _ in range(_STEPS_MAX):
            probability = _sigmoid(stretch * odds + shift)
            spread = probability * (1.0 - probability)
            slope = np.array([(probability - agreed) @ odds + _RIDGE * (stretch - 1.0), (probability - agreed).sum()])
            cross = spread @ odds
            curvature = np.array([[spread @ odds**2 + _RIDGE, cross], [cross, spread.sum() + 1e-3]])
            step = np.linalg.solve(curvature, slope)
            step /= max(1.0, float(np.abs(step).max()))
            stretch, shift = max(0.05, stretch - float(step[0])), shift - float(step[1])
            if float(np.abs(step).max()) < 1e-8:
                break
        *weights, intercept = self.weights
        return Calibrator(
            centre=self.centre,
            scale=self.scale,
            weights=(*(stretch * weight for weight in weights), stretch * intercept + shift),
            rows=len(agreed),
        )

    def probability(self, observed: Floats) -> Floats:
        """The probability of agreement of each row of signals, in the open interval (0, 1)."""
        least = 1.0 / (self.rows + 2.0)
        clipped: Floats = np.clip(_sigmoid(self._odds(observed)), least, 1.0 - least)
        return clipped

    def _odds(self, observed: Floats) -> Floats:
        weights = np.array(self.weights)
        odds: Floats = ((observed - np.array(self.centre)) / np.array(self.scale)) @ weights[:-1] + weights[-1]
        return odds


def calibration_error(probability: Floats, agreed: Flags, bins: int = 10) -> float:
    """Expected calibration error: mean distance of stated and seen agreement over equally wide bins, by their size.

    Guo, Pleiss, Sun, Weinberger: On Calibration of Modern Neural Networks (ICML 2017).
    """
    if not len(probability):
        return 0.0
    place = np.minimum((probability * bins).astype(int), bins - 1)
    stated = np.bincount(place, probability, minlength=bins)
    seen = np.bincount(place, agreed.astype(float), minlength=bins)
    return float(np.abs(stated - seen).sum() / len(probability))


def _fit_rising(rows: Floats, outcome: Floats) -> Floats:
    """Logistic weights of which none but the intercept is negative: a signal that seems to mislead is noise."""
    used = np.ones(rows.shape[1], bool)
    while True:
        weights = np.zeros(rows.shape[1])
        weights[used] = _newton(rows[:, used], outcome)
        wrong = weights < 0.0
        wrong[-1] = False
        if not wrong.any():
            return weights
        used &= ~wrong


def _newton(rows: Floats, outcome: Floats) -> Floats:
    penalty = np.full(rows.shape[1], _RIDGE)
    penalty[-1] = 1e-3  # all but free: keeps the intercept finite where every outcome is the same
    weights = np.zeros(rows.shape[1])
    for _ in range(_STEPS_MAX):
        probability = _sigmoid(rows @ weights)
        gradient = rows.T @ (probability - outcome) + penalty * weights
        curvature = (rows * (probability * (1.0 - probability))[:, None]).T @ rows + np.diag(penalty)
        step = np.linalg.solve(curvature, gradient)
        # A step longer than this leaves the region in which the quadratic model holds.
        weights = weights - step / max(1.0, float(np.abs(step).max()) / 2.0)
        if float(np.abs(step).max()) < 1e-8:
            break
    return weights


def _sigmoid(odds: Floats) -> Floats:
    bounded: Floats = 1.0 / (1.0 + np.exp(-np.clip(odds, -40.0, 40.0)))
    return bounded


def _log_odds(probability: Floats) -> Floats:
    result: Floats = np.log(probability / (1.0 - probability))
    return result
