"""One head per output field: what kind of answer it gives, how targets become numbers, and numbers become answers.

All heads share one linear solve (see :mod:`apprentice.local.student`), so a head is nothing but some columns of the
target matrix. A *choice* has one column per value seen (1 for the row's value, 0 else) and answers with the highest
score. A *number* has one standardised column and answers within the schema's limits. Anything else is *copied* from
the most similar example, which rarely agrees with the remote and says so through its confidence.
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec
import numpy as np

from apprentice.local.features import Floats, Ranks
from apprentice_actors.ports import JsonObject

ABSENT = ""
"""Stands for a field that the answer does not have; no JSON text is empty."""
CHOICES_MAX = 2_000
"""A field with more different values than this is copied, or a number."""
_NUMBER_CHOICES = 20
_NUMBER_CHOICES_MAX = 200
"""Numbers are a choice while there are few different ones, or while each occurs ten times on average."""


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """How one output field is answered."""

    field: str
    kind: Literal["choice", "number", "copy"]
    values: tuple[str, ...] = ()
    """Of a choice: the values as JSON text, in sorted order. Of a copy: the value of each training row."""
    mean: float = 0.0
    spread: float = 1.0
    low: float | None = None
    high: float | None = None
    whole: bool = False
    """Whether the schema asks for an integer."""

    @property
    def width(self) -> int:
        """Columns in the target matrix."""
        return {"choice": len(self.values), "number": 1, "copy": 0}[self.kind]


def plan(outputs: Sequence[JsonObject], schema: JsonObject | None) -> tuple[Head, ...]:
    """Choose a head for each field of the answers, in the order of the schema, else of first appearance."""
    properties: Mapping[str, Any] = (schema or {}).get("properties") or {}
    seen = dict.fromkeys(name for output in outputs for name in output)
    names = [name for name in properties if name in seen] + [name for name in seen if name not in properties]
    return tuple(_head(name, [spelled(output, name) for output in outputs], properties.get(name)) for name in names)


def spelled(output: JsonObject, field: str) -> str:
    """A field's value as canonical JSON text, :data:`ABSENT` where there is none."""
    return json.dumps(output[field], sort_keys=True, ensure_ascii=False) if field in output else ABSENT


def _head(field: str, texts: list[str], schema: Any) -> Head:
    about: Mapping[str, Any] = schema if isinstance(schema, dict) else {}
    values = tuple(sorted(set(texts)))
    numeric = all(_is_number(text) for text in values)
    closed = "enum" in about or "const" in about or about.get("type") == "boolean"
    most = min(CHOICES_MAX, max(1, len(texts) // 2))
    if numeric:
        most = min(most, max(_NUMBER_CHOICES, min(_NUMBER_CHOICES_MAX, len(texts) // 10)))
    if closed or len(values) <= most:
        return Head(field=field, kind="choice", values=tuple(sorted({*values, *_listed(about)})))
    if not numeric:
        return Head(field=field, kind="copy", values=tuple(texts))
    numbers = np.array([float(text) for text in texts])
    low, high = about.get("minimum"), about.get("maximum")
    return Head(
        field=field,
        kind="number",
        mean=float(numbers.mean()),
        spread=float(numbers.std()) or 1.0,
        low=low if isinstance(low, int | float) else float(numbers.min()),
        high=high if isinstance(high, int | float) else float(numbers.max()),
        whole=about.get("type") == "integer" or not any(set(".eE") & set(text) for text in values),
    )


def _listed(about: Mapping[str, Any]) -> list[str]:
    """The texts that the schema allows: one that was never seen can be answered by its name."""
    return [json.dumps(value, ensure_ascii=False) for value in about.get("enum", ()) if isinstance(value, str)]


def _is_number(text: str) -> bool:
    return text[:1].isdigit() or text[:1] == "-"


def targets(heads: Sequence[Head], outputs: Sequence[JsonObject]) -> Floats:
    """The matrix that the heads learn: a row per answer, each head's columns side by side."""
    columns = [np.zeros((len(outputs), 0))]
    for head in heads:
        block = np.zeros((len(outputs), head.width))
        if head.kind == "choice":
            rank = {text: index for index, text in enumerate(head.values)}
            block[np.arange(len(outputs)), [rank[spelled(output, head.field)] for output in outputs]] = 1.0
        elif head.kind == "number":
            block[:, 0] = [(output[head.field] - head.mean) / head.spread for output in outputs]
        columns.append(block)
    return np.concatenate(columns, axis=1)


def blocks(heads: Sequence[Head], scores: Floats) -> list[Floats]:
    """Each head's columns of a score matrix."""
    edges = np.cumsum([head.width for head in heads])[:-1]
    return list(np.split(scores, edges, axis=1)) if heads else []


def answers(heads: Sequence[Head], scores: Floats, nearest: Ranks) -> list[JsonObject]:
    """Turn score rows into answers; ``nearest`` is the most similar training row of each."""
    outputs: list[JsonObject] = [{} for _ in nearest]
    for head, block in zip(heads, blocks(heads, scores), strict=True):
        for output, value in zip(outputs, _values(head, block, nearest), strict=True):
            if value is not ABSENT:
                output[head.field] = value
    return outputs


def _values(head: Head, block: Floats, nearest: Ranks) -> list[Any]:
    if head.kind == "number":
        return [_within(head, float(score)) for score in block[:, 0]]
    picked = block.argmax(axis=1) if head.kind == "choice" else nearest
    return [json.loads(text) if (text := head.values[at]) != ABSENT else ABSENT for at in picked]


def _within(head: Head, score: float) -> float | int:
    value = score * head.spread + head.mean
    if not head.whole:
        return _clip(value, head.low, head.high)
    low = None if head.low is None else math.ceil(head.low)
    high = None if head.high is None else math.floor(head.high)
    return int(_clip(round(value), low, high))


def _clip(value: float, low: float | None, high: float | None) -> float:
    value = value if low is None else max(low, value)
    return value if high is None else min(high, value)


class Tolerance(msgspec.Struct, frozen=True):
    """How far numbers may differ and still agree, by field; ``*`` is for all others. Absolute differences."""

    by_field: Mapping[str, float] = {}

    def agrees(self, field: str, ours: JsonObject, theirs: JsonObject) -> bool:
        """Whether one field of two answers agrees; two answers without it do."""
        if spelled(ours, field) == spelled(theirs, field):
            return True
        pair = (ours.get(field), theirs.get(field))
        if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in pair):
            return False
        allowed = self.by_field.get(field, self.by_field.get("*", 0.0))
        return bool(abs(float(ours[field]) - float(theirs[field])) <= allowed)
