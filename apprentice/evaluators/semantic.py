"""``semantic_similarity``: texts by how alike they are, everything else as in ``structured_match``."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from math import sqrt
from typing import Any, Protocol

from apprentice.evaluators.base import EvaluatorError, place_of
from apprentice.evaluators.fields import Fields, Pair
from apprentice.evaluators.structured import Likeness
from apprentice_actors.ports import JsonObject, Question

_GRAM = 3


class TextEncoder(Protocol):
    """Anything that turns texts into vectors, such as a sentence-transformers model."""

    def encode(self, texts: list[str]) -> Any:
        """One row of numbers per text: a two-dimensional array or nested sequences."""
        ...


class SemanticSimilarity:
    """Weighted mean over the fields: cosine for texts and lists of texts, agreement for the rest.

    With an encoder, the cosine of its vectors, negative ones as 0; without, :func:`lexical_similarity`, which knows
    words and spelling but no synonyms. :attr:`method` says which, for the report.
    """

    name = "semantic_similarity"

    def __init__(self, fields: Fields, likeness: Likeness, encoder: TextEncoder | None = None) -> None:
        self._fields = fields
        self._likeness = likeness
        self._encoder = encoder

    @property
    def method(self) -> str:
        """``encoder:NAME`` or ``lexical``."""
        if self._encoder is None:
            return "lexical"
        return f"encoder:{getattr(self._encoder, 'name', type(self._encoder).__name__)}"

    async def score(self, local: JsonObject | None, remote: JsonObject | None, question: Question) -> float:
        """An answer that is missing on either side scores 0, also where both are. Encoders run in a thread."""
        if local is None or remote is None:
            return 0.0
        scores: list[tuple[float, float]] = []
        texts: list[tuple[float, str, str]] = []
        for pair in self._fields.pairs(local, remote):
            words = self._texts(pair)
            if pair.agreed is not None:
                scores.append((pair.weight, float(pair.agreed)))
            elif words is None:
                scores.append((pair.weight, float(self._likeness.agree(pair.path, pair.local, pair.remote))))
            else:
                texts.append((pair.weight, *words))
        alike = await self._similarities([(left, right) for _, left, right in texts])
        scores += [(weight, score) for (weight, _, _), score in zip(texts, alike, strict=True)]
        return self._fields.mean(scores)

    def _texts(self, pair: Pair) -> tuple[str, str] | None:
        left, right = _as_text(pair.local), _as_text(pair.remote)
        return None if left is None or right is None else (self._likeness.text(left), self._likeness.text(right))

    async def _similarities(self, pairs: list[tuple[str, str]]) -> list[float]:
        """Equal texts are 1 and a text against none is 0, whatever the method; only the others are measured."""
        known = [1.0 if left == right else 0.0 if not (left and right) else None for left, right in pairs]
        open_pairs = [pair for pair, score in zip(pairs, known, strict=True) if score is None]
        if self._encoder is None:
            measured = iter([lexical_similarity(left, right) for left, right in open_pairs])
        else:
            measured = iter(await self._encoded(open_pairs) if open_pairs else [])
        return [next(measured) if score is None else score for score in known]

    async def _encoded(self, pairs: list[tuple[str, str]]) -> list[float]:
        assert self._encoder is not None
        texts = [text for pair in pairs for text in pair]
        try:
            rows = [[float(x) for x in row] for row in await asyncio.to_thread(self._encoder.encode, texts)]
        except Exception as error:
            text = f"{self.method} failed on {len(texts)} texts with {place_of(error)}; check the encoder"
            raise EvaluatorError(text) from error
        if len(rows) != len(texts):
            raise EvaluatorError(f"{self.method} gave {len(rows)} vectors for {len(texts)} texts; one each is needed")
        return [_cosine(rows[at], rows[at + 1]) for at in range(0, len(rows), 2)]


def lexical_similarity(left: str, right: str) -> float:
    """Mean of two cosines in [0, 1]: of counted words, and of counted character trigrams; case does not count."""
    left, right = left.casefold(), right.casefold()
    if left == right:
        return 1.0
    return (_counted(left.split(), right.split()) + _counted(_grams(left), _grams(right))) / 2


def _grams(text: str) -> list[str]:
    padded = f" {text} "
    return [padded[at : at + _GRAM] for at in range(max(1, len(padded) - _GRAM + 1))]


def _counted(left: Iterable[str], right: Iterable[str]) -> float:
    mine, its = Counter(left), Counter(right)
    dot = sum(count * its[item] for item, count in mine.items())
    norm = sqrt(sum(n * n for n in mine.values()) * sum(n * n for n in its.values()))
    return min(1.0, dot / norm) if norm else 0.0


def _cosine(left: Sequence[float], right: Sequence[float]) -> float:
    if len(left) != len(right):
        raise EvaluatorError(f"the encoder gave vectors of {len(left)} and {len(right)} numbers; check the encoder")
    dot = sum(a * b for a, b in zip(left, right, strict=True))
    norm = sqrt(sum(a * a for a in left) * sum(b * b for b in right))
    score = dot / norm if norm else 0.0
    if score != score:
        raise EvaluatorError("the encoder gave a vector that is not of finite numbers; check the encoder")
    return min(1.0, max(0.0, score))


def _as_text(value: Any) -> str | None:
    """A text, or a non-empty list of texts line by line; None for what has no likeness beyond agreement."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        return "\n".join(value)
    return None
