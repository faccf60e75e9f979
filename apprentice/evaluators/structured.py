"""``structured_match``: the weighted share of fields that agree."""

from collections.abc import Mapping
from math import isclose
from typing import Any
from unicodedata import normalize

from apprentice.evaluators.base import same
from apprentice.evaluators.fields import Fields
from apprentice_actors.ports import JsonObject, Question


class Likeness:
    """When two values of one field agree.

    Texts agree up to white space and Unicode composition, and up to case where that is ignored; numbers up to a
    tolerance; lists item by item in order; objects key by key. No partial credit inside a field.
    """

    def __init__(self, *, tolerance: Mapping[str, float] | None = None, ignore_case: bool = False) -> None:
        """``tolerance`` is by field path, ``*`` for every field without its own."""
        self._tolerance = dict(tolerance or {})
        self._ignore_case = ignore_case

    def agree(self, path: str, left: Any, right: Any) -> bool:
        """Whether both values of the field at ``path`` are equivalent."""
        return self._agree(left, right, self._tolerance.get(path, self._tolerance.get("*", 0.0)))

    def text(self, text: str) -> str:
        """A text without the differences that do not count."""
        plain = " ".join(normalize("NFC", text).split())
        return plain.casefold() if self._ignore_case else plain

    def _agree(self, left: Any, right: Any, tolerance: float) -> bool:
        if isinstance(left, str) and isinstance(right, str):
            return self.text(left) == self.text(right)
        if isinstance(left, dict) and isinstance(right, dict):
            both = left.keys() == right.keys()
            return both and all(self._agree(item, right[key], tolerance) for key, item in left.items())
        if isinstance(left, list) and isinstance(right, list):
            each = (self._agree(mine, its, tolerance) for mine, its in zip(left, right, strict=False))
            return len(left) == len(right) and all(each)
        return same(left, right) or _near(left, right, tolerance)


class StructuredMatch:
    """Weighted mean over the fields, each 1 where the values agree and 0 where they do not or one is missing."""

    name = "structured_match"

    def __init__(self, fields: Fields, likeness: Likeness) -> None:
        self._fields = fields
        self._likeness = likeness

    async def score(self, local: JsonObject | None, remote: JsonObject | None, question: Question) -> float:
        """An answer that is missing on either side scores 0, also where both are."""
        if local is None or remote is None:
            return 0.0
        agree = self._likeness.agree
        return self._fields.mean(
            [
                (pair.weight, float(agree(pair.path, pair.local, pair.remote) if pair.agreed is None else pair.agreed))
                for pair in self._fields.pairs(local, remote)
            ]
        )


def _near(left: Any, right: Any, tolerance: float) -> bool:
    """Numbers at most ``tolerance`` apart; the edge itself counts, whatever binary fractions make of it."""
    if tolerance <= 0 or isinstance(left, bool) or isinstance(right, bool):
        return False
    if not (isinstance(left, int | float) and isinstance(right, int | float)):
        return False
    apart = abs(left - right)
    return apart <= tolerance or isclose(apart, tolerance, rel_tol=1e-9)
