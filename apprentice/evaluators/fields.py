"""Answers taken apart field by field, for the evaluators that compare fields."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from apprentice.schema import Schema
from apprentice_actors.ports import JsonObject


class Pair(NamedTuple):
    """One field of both answers. ``agreed`` is the verdict where no comparison is needed, else None."""

    path: str
    weight: float
    local: Any
    remote: Any
    agreed: bool | None


class Fields:
    """Which fields are compared, how much each counts, and what a field that is missing means."""

    def __init__(
        self, schema: Schema | None, paths: tuple[str, ...] = (), weights: Mapping[str, float] | None = None
    ) -> None:
        """``paths`` may be dotted; empty for all fields of the schema, or all that occur where there is no schema."""
        self._schema = schema
        self._paths = paths or (schema.fields if schema else ())
        self._weights = dict(weights or {})
        self._optional = frozenset(path for path in self._paths if schema and schema.optional(path))

    def pairs(self, local: JsonObject, remote: JsonObject) -> Iterator[Pair]:
        """The fields that count for this pair of answers.

        A field that both lack is left out where the schema lets them; anywhere else, lacking is disagreeing.
        """
        for path in self._paths or sorted(local.keys() | remote.keys()):
            mine, its = find(local, path), find(remote, path)
            if mine is ABSENT and its is ABSENT and path in self._optional:
                continue
            agreed = False if mine is ABSENT or its is ABSENT else None
            yield Pair(path, self._weights.get(path, 1.0), mine, its, agreed)

    def mean(self, scores: list[tuple[float, float]]) -> float:
        """Mean of (weight, score) pairs.

        Where nothing was left to compare it is 1 if the schema explains that (both lack the same optional fields),
        and 0 if not: two empty answers are no evidence of agreement.
        """
        total = sum(weight for weight, _ in scores)
        if not total:
            return 1.0 if self._optional else 0.0
        return min(1.0, sum(weight * score for weight, score in scores) / total)


class Absent:
    """The type of :data:`ABSENT`."""

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT = Absent()
"""What stands for a field that is not there; ``null`` is a value."""


def find(answer: JsonObject, path: str) -> Any:
    """The value at a dotted path, or :data:`ABSENT`."""
    value: Any = answer
    for name in path.split("."):
        if not isinstance(value, dict) or name not in value:
            return ABSENT
        value = value[name]
    return value
