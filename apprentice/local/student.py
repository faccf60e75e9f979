"""The embedded model itself: kernel ridge regression on all output fields at once, with calibrated confidence.

With training inputs x_1 … x_n, kernel K, row weights w and targets Z (:func:`apprentice.local.heads.targets`)::

    alpha = (K + penalty diag(1/w))^-1 Z            scores of an input x: k(x) alpha

One inverse serves every field, and gives the leave-one-out prediction of each row exactly and for free:
``Z_i - alpha_i / [(K + penalty diag(1/w))^-1]_ii`` (Rifkin & Lippert, Notes on Regularized Least Squares, 2007). So
every training row also calibrates, as if the model had not seen it. Time grows with n³: 2,400 rows of short texts take
two seconds on one core.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from apprentice.local.calibration import Calibrator, Flags, Precision, calibration_error, signals
from apprentice.local.encoder import Encoder, EncoderSpace
from apprentice.local.features import Floats, NgramSpace, Ranks, Space
from apprentice.local.heads import Head, Tolerance, answers, plan, targets
from apprentice.local.names import WEIGHT, as_inputs, as_targets, names
from apprentice.local.tuned import FOLDER, Adapter
from apprentice.training.weighting import weigh
from apprentice_actors.ports import Example, JsonObject

WEIGHTS = "weights.safetensors"
MODEL = "model.json"
TIME_CAP_S = 900.0
"""What a training job may take."""
_PENALTY = 0.2
_SAME = 1e-6
"""Similarities that differ by less are equal: one comes from the Gram matrix, the other from a single row."""
_QUANTILES = 41
"""So that the lowest twentieth of the training inputs lies under the third."""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a training job may set."""

    encoder: str | None = None
    """A sentence encoder: a folder or a package; hashed n-grams without one."""
    encoder_tuning: Literal["none", "lora"] = "none"
    """Whether the encoder itself is fine-tuned on the rows, now and then."""
    numeric_tolerance: Mapping[str, float] = {}
    """How far numbers may differ and still agree, by field; ``*`` for all others."""
    balance: bool = False
    """Whether rows of rare answers weigh more (:mod:`apprentice.training.weighting`)."""
    source_weights: Mapping[str, float] = {}
    """What a row weighs by its source; 1 for those not named."""
    rows_max: int = 3_000
    """Training uses at most so many rows: all fresh ones first, the newest of them if even they are too many."""
    time_cap_s: float | None = None
    """The job is stopped after so many seconds; None for :data:`TIME_CAP_S`. Tuning an encoder gets a third of them."""


class Card(msgspec.Struct, frozen=True, kw_only=True):
    """Everything of a model that is not an array."""

    heads: tuple[Head, ...]
    matched: tuple[int, ...]
    """Positions of the heads whose agreement counts."""
    precision: Precision
    calibrator: Calibrator
    rows: int
    encoder: str | None
    encoder_sha256: str | None
    tuned: bool = False
    """Whether the encoder has the matrices in the folder :data:`apprentice.local.tuned.FOLDER`."""
    names: int = 0
    """Names of values (:mod:`apprentice.local.names`) that stand behind the rows."""
    usual: tuple[float, ...] = ()
    """Evenly spaced quantiles of the similarity of each training input to the nearest other one, ascending."""


class Told(NamedTuple):
    """What a student says to one input."""

    output: JsonObject
    p_agree: float
    novelty: float | None
    """Share of the training inputs that lie closer to another one than this input does to any; None: not known."""


class Student:
    """A trained model that answers."""

    def __init__(
        self, card: Card, space: Space, alpha: npt.NDArray[np.float32], adapter: Adapter | None = None
    ) -> None:
        self.card = card
        self._space = space
        self._alpha = alpha
        self._adapter = adapter

    def answer(self, inputs: Sequence[JsonObject]) -> list[tuple[JsonObject, float]]:
        """For each input the answer and the probability that the remote model would agree."""
        return [(told.output, told.p_agree) for told in self.tell(inputs)]

    def tell(self, inputs: Sequence[JsonObject]) -> list[Told]:
        """The same, and how unlike the training inputs each input is."""
        kernel = self._space.kernel(inputs)
        scores = (kernel.astype(np.float32) @ self._alpha).astype(np.float64)
        likeness = kernel[:, : self.card.rows]
        outputs = answers(self.card.heads, scores, likeness.argmax(axis=1))
        picks = Precision.picks(self.card.heads, scores)
        odds = self.card.precision.total(self.card.matched, picks, len(inputs))
        nearest = likeness.max(axis=1)
        observed = signals(self.card.heads, self.card.matched, scores, nearest, odds)
        probabilities = self.card.calibrator.probability(observed).tolist()
        return [Told(*each) for each in zip(outputs, probabilities, self._novelty(nearest), strict=True)]

    def _novelty(self, nearest: Floats) -> list[float | None]:
        usual = self.card.usual
        if not usual:
            return [None] * len(nearest)
        as_close = np.searchsorted(usual, nearest + _SAME, side="right")
        return [round(1.0 - int(at) / len(usual), 3) for at in as_close]

    def save(self, folder: Path) -> None:
        """Write the weights and the card into an existing folder."""
        tensors = {name: np.ascontiguousarray(array) for name, array in self._space.tensors().items()}
        save_file({"alpha": np.ascontiguousarray(self._alpha), **tensors}, folder / WEIGHTS)
        (folder / MODEL).write_bytes(msgspec.json.encode(self.card))
        if self._adapter is not None:
            shutil.copytree(self._adapter.folder, folder / FOLDER)

    @classmethod
    def load(cls, folder: Path, encoder: Callable[[str, Adapter | None], Encoder]) -> "Student":
        """Read a saved model; ``encoder`` gives the encoder of a name, with an adapter's matrices where there is one.

        Raises ``ValueError`` where the encoder is another one, or the weights are no safetensors file.
        """
        card = msgspec.json.decode((folder / MODEL).read_bytes(), type=Card)
        try:
            tensors = load_file(folder / WEIGHTS)
        except SafetensorError as error:
            raise ValueError(f"{folder / WEIGHTS} is no safetensors file ({error}); train the version again") from error
        alpha = tensors.pop("alpha")
        if card.encoder is None:
            return cls(card, NgramSpace.from_tensors(tensors, card.rows + card.names), alpha)
        adapter = Adapter.read(folder / FOLDER) if card.tuned else None
        used = encoder(card.encoder, adapter)
        if used.fingerprint != card.encoder_sha256:
            raise ValueError(
                f"the version was trained with another encoder than {used.name} is now "
                f"(sha256 {card.encoder_sha256} against {used.fingerprint}); restore that encoder or train again"
            )
        return cls(card, EncoderSpace.from_tensors(used, tensors), alpha, adapter)


def train(
    rows: Sequence[Example],
    held_out: Sequence[Example],
    *,
    schema: JsonObject | None,
    match_fields: Sequence[str],
    settings: Settings,
    encoder: Encoder | None = None,
    adapter: Adapter | None = None,
    unseen_by: Adapter | None = None,
    progress: Callable[[float, str], None] = lambda fraction, message: None,
) -> tuple[Student, dict[str, float]]:
    """Fit on ``rows``, calibrate on ``held_out`` and on leave-one-out predictions; returns the model and its metrics.

    ``adapter`` is what ``encoder`` was tuned by. Rows that it saw say nothing about calibration, nor do those that
    ``unseen_by`` saw. Metrics: ``agreement_loo``, ``agreement_holdout``, ``ece_loo``, ``ece_holdout`` (the latter with
    a calibrator that has not seen the held-out rows), ``rows_train``, ``rows_holdout``. Raises ``ValueError`` without
    any row.
    """
    if not rows:
        raise ValueError("the training file has no rows; collect examples first")
    rows = _newest(rows, settings.rows_max)
    outputs = [row.output for row in rows]
    heads = plan(outputs, schema)
    matched = _matched(heads, match_fields)
    space, alpha, trained = _fit(rows, heads, match_fields, settings, encoder, progress)
    unseen = _asked(space, alpha, [row.input for row in held_out], len(rows))
    scores, nearest = np.concatenate([trained[0], unseen[0]]), np.concatenate([trained[1], unseen[1]])
    similarity = np.concatenate([trained[2], unseen[2]])
    given = answers(heads, scores, nearest)
    expected = [*outputs, *(row.output for row in held_out)]
    right = _right(given, expected, [heads[at].field for at in matched], Tolerance(settings.numeric_tolerance))
    complete = _complete(expected, heads, match_fields)
    agreed: Flags = right.all(axis=1) & complete
    precision, odds = Precision.measure(heads, matched, Precision.picks(heads, scores), right)
    observed = signals(heads, matched, scores, similarity, odds)
    honest = _honest(rows, adapter or unseen_by)
    judged = np.concatenate([honest, np.ones(len(held_out), bool)])
    calibrator = Calibrator.fit(observed, agreed)
    if not honest.all():
        calibrator = calibrator.corrected(observed[judged], agreed[judged])
    card = Card(
        heads=heads,
        matched=matched,
        precision=precision,
        calibrator=calibrator,
        rows=len(rows),
        encoder=encoder.name if encoder else None,
        encoder_sha256=encoder.fingerprint if encoder else None,
        tuned=adapter is not None,
        names=len(names(heads)),
        usual=tuple(np.quantile(trained[2][honest], np.linspace(0.0, 1.0, _QUANTILES)).tolist()),
    )
    metrics = _metrics(observed[judged], agreed[judged], len(rows), len(held_out))
    return Student(card, space, alpha.astype(np.float32), adapter), metrics


def _fit(
    rows: Sequence[Example],
    heads: Sequence[Head],
    match_fields: Sequence[str],
    settings: Settings,
    encoder: Encoder | None,
    progress: Callable[[float, str], None],
) -> tuple[Space, Floats, tuple[Floats, Ranks, Floats]]:
    """The space, the coefficients, and what :func:`_left_out` tells of the rows."""
    named = names(heads)
    inputs = [*(row.input for row in rows), *as_inputs(named)]
    space: Space = EncoderSpace.build(encoder, inputs) if encoder else NgramSpace.build(inputs)
    progress(0.2, "features")
    gram = space.gram()
    progress(0.4, "similarities")
    wanted = targets(heads, [row.output for row in rows])
    wanted = np.concatenate([wanted, as_targets(named, wanted.shape[1])])
    weights = weigh(rows, match_fields=match_fields, by_source=settings.source_weights, balance=settings.balance)
    alpha, own = _solve(gram, wanted, np.array(weights + [WEIGHT] * len(named)))
    progress(0.8, "weights")
    return space, alpha, _left_out(gram[: len(rows), : len(rows)], own[: len(rows)])


def _newest(rows: Sequence[Example], most: int) -> list[Example]:
    if len(rows) <= most:
        return list(rows)
    ranked = sorted(range(len(rows)), key=lambda at: (rows[at].fresh, at))[-most:]
    return [rows[at] for at in sorted(ranked)]


def _matched(heads: Sequence[Head], match_fields: Sequence[str]) -> tuple[int, ...]:
    wanted = set(match_fields) or {head.field for head in heads}
    return tuple(at for at, head in enumerate(heads) if head.field in wanted)


def _solve(gram: Floats, target: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """The coefficients, and the leave-one-out scores of the training rows."""
    inverse = np.linalg.inv(gram + np.diag(_PENALTY / np.maximum(weights, 1e-6)))
    alpha = inverse @ target
    return alpha, target - alpha / np.diag(inverse)[:, None]


def _honest(rows: Sequence[Example], adapter: Adapter | None) -> Flags:
    """Which rows tell how good the model is: all that tuning has not seen, or all where it has seen them all."""
    unseen = np.ones(len(rows), bool) if adapter is None else adapter.unseen([row.input for row in rows])
    return unseen if unseen.any() else ~unseen


def _left_out(gram: Floats, scores: Floats) -> tuple[Floats, Ranks, Floats]:
    """Scores, nearest other row and its similarity for each training row. A single row has no other: it is its own."""
    others = gram.copy()
    np.fill_diagonal(others, 0.0)
    return scores, others.argmax(axis=1), others.max(axis=1)


def _asked(space: Space, alpha: Floats, inputs: Sequence[JsonObject], rows: int) -> tuple[Floats, Ranks, Floats]:
    """Scores, nearest of the training ``rows`` and its similarity for other inputs."""
    if not inputs:
        return np.zeros((0, alpha.shape[1])), np.zeros(0, np.int64), np.zeros(0)
    kernel = space.kernel(inputs)
    likeness = kernel[:, :rows]
    return kernel @ alpha, likeness.argmax(axis=1), likeness.max(axis=1)


def _right(
    given: Sequence[JsonObject], expected: Sequence[JsonObject], fields: Sequence[str], tolerance: Tolerance
) -> Flags:
    flags = [
        [tolerance.agrees(field, ours, theirs) for field in fields]
        for ours, theirs in zip(given, expected, strict=True)
    ]
    return np.array(flags, bool).reshape(len(given), len(fields))


def _complete(expected: Sequence[JsonObject], heads: Sequence[Head], match_fields: Sequence[str]) -> Flags:
    """False for answers with a matched field that no training row has: the model cannot give it."""
    known = {head.field for head in heads}
    missing = [bool((set(match_fields) or set(output)) & set(output) - known) for output in expected]
    return ~np.array(missing, bool)


def _metrics(observed: Floats, agreed: Flags, rows: int, held_out: int) -> dict[str, float]:
    """From the judged rows, the ``held_out`` ones last."""
    split = len(agreed) - held_out
    trained, unseen = agreed[:split], agreed[split:]
    calibrator = Calibrator.fit(observed[:split], trained)
    metrics: dict[str, Any] = {
        "rows_train": rows,
        "rows_holdout": held_out,
        "agreement_loo": trained.mean(),
        "ece_loo": calibration_error(calibrator.probability(observed[:split]), trained),
    }
    if held_out:
        metrics["agreement_holdout"] = unseen.mean()
        metrics["ece_holdout"] = calibration_error(calibrator.probability(observed[split:]), unseen)
    return {name: float(value) for name, value in metrics.items()}
