"""How sure a generative model is of an answer: from token log-probabilities to the probability that the remote agrees.

Only the tokens of the values count, of the fields whose agreement counts: braces, names and quotes are given by the
format and would drown the rest. Their mean is length-normalised (Malinin & Gales, Uncertainty Estimation in
Autoregressive Structured Prediction, ICLR 2021); the least certain token stands beside it. What these signals are worth
is measured on held-out rows after each training and kept with the version.
"""

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from apprentice.local.calibration import Calibrator
from apprentice.local.features import Floats

CARD = "confidence.json"
_SURE = 0.0


class Token(msgspec.Struct, frozen=True):
    """A token that was written and its log-probability (natural logarithm, at temperature 1)."""

    text: str
    logprob: float


class Card(msgspec.Struct, frozen=True, kw_only=True):
    """What a version's signals are worth: fitted once, on rows the version was not trained on."""

    fields: tuple[str, ...]
    """The fields whose agreement counts; empty for all."""
    calibrator: Calibrator
    rows: int
    """Held-out rows behind the calibration."""
    agreement: float
    """Mean agreement on them."""

    def p_agree(self, tokens: Sequence[Token]) -> float:
        """The calibrated probability of agreement; without tokens the share of held-out rows that agreed."""
        if not tokens:
            return (self.agreement * self.rows + 1.0) / (self.rows + 2.0)
        return float(self.calibrator.probability(np.array([signals(tokens, self.fields)]))[0])

    def save(self, folder: Path) -> None:
        """Write the card into the folder of a version."""
        (folder / CARD).write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=1))

    @classmethod
    def load(cls, folder: Path) -> "Card":
        """Read it back. Raises ``OSError`` and ``msgspec.DecodeError``."""
        return msgspec.json.decode((folder / CARD).read_bytes(), type=cls)


def fit(answers: Sequence[Sequence[Token]], agreed: Sequence[bool], fields: Sequence[str]) -> Card:
    """Calibrate on answers to held-out rows and whether each agreed with the remote's."""
    observed: Floats = np.array([signals(tokens, fields) for tokens in answers], float).reshape(len(answers), 3)
    outcome = np.array(agreed, bool)
    if not len(outcome):  # nothing held out yet: one imagined row of each kind, which says nothing
        observed, outcome = np.array([[1.0, 1.0, 0.0], [0.0, 0.0, -10.0]]), np.array([True, False])
    return Card(
        fields=tuple(fields),
        calibrator=msgspec.structs.replace(Calibrator.fit(observed, outcome), rows=len(agreed)),
        rows=len(agreed),
        agreement=float(np.mean(outcome)) if len(agreed) else 0.5,
    )


def signals(tokens: Sequence[Token], fields: Sequence[str]) -> tuple[float, float, float]:
    """Larger for surer: geometric mean probability of the value tokens, the least one, and the mean log-probability."""
    spans = list(value_spans("".join(token.text for token in tokens), fields))
    found, start = [], 0
    for token in tokens:
        end = start + len(token.text)
        if any(start < until and end > since for since, until in spans):
            found.append(token.logprob)
        start = end
    if not found:
        found = [token.logprob for token in tokens] or [_SURE]
    mean = max(-50.0, sum(found) / len(found))
    return math.exp(mean), math.exp(max(-50.0, min(found))), mean


def value_spans(text: str, fields: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Where the scalar values of a JSON object stand in ``text``, quotes left out; only below ``fields`` if given.

    Nothing is found in a text that is no JSON object.
    """
    start = text.find("{")
    if start < 0:
        return
    scanner = _Scanner(text, frozenset(fields))
    try:
        scanner.value(start, inside=not fields, top=True)
    except (ValueError, IndexError, RecursionError):
        return
    yield from scanner.spans


class _Scanner:
    """Walks over JSON text and notes where its scalars are; ``json`` itself decodes them."""

    def __init__(self, text: str, fields: frozenset[str]) -> None:
        self._text = text
        self._fields = fields
        self._decoder = json.JSONDecoder()
        self.spans: list[tuple[int, int]] = []

    def value(self, at: int, *, inside: bool, top: bool = False) -> int:
        """Walk over the value at ``at``; returns where it ends."""
        at = self._blank(at)
        opening = self._text[at]
        if opening not in "{[":
            return self._scalar(at, inside)
        closing, at = "}" if opening == "{" else "]", self._blank(at + 1)
        while self._text[at] != closing:
            within = inside
            if opening == "{":
                name, at = self._decode(at)
                within = inside or (top and name in self._fields)
                at = self._blank(at) + 1  # the colon
            at = self._blank(self.value(at, inside=within))
            if self._text[at] == ",":
                at = self._blank(at + 1)
        return at + 1

    def _scalar(self, at: int, inside: bool) -> int:
        _, end = self._decode(at)
        if inside:
            quoted = self._text[at] == '"' and end - at > 2
            self.spans.append((at + 1, end - 1) if quoted else (at, end))
        return end

    def _decode(self, at: int) -> tuple[Any, int]:
        return self._decoder.raw_decode(self._text, at)

    def _blank(self, at: int) -> int:
        while self._text[at] in " \t\r\n":
            at += 1
        return at
