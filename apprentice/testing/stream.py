"""Answers that a real model once gave, replayed by looking up the input."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import msgspec

from apprentice.remote.prompt import canonical_json
from apprentice.testing.dialect import Reply
from apprentice_actors.ports import JsonObject


class RecordedStream:
    """A mapping from inputs to recorded answers, to be given to :class:`~apprentice.testing.Frontier` as ``answer``."""

    def __init__(self, rows: Iterable[tuple[JsonObject, JsonObject, Mapping[str, Any]]]) -> None:
        """``rows`` are input, answer, and the recorded token counts by the field names of :class:`Reply` (or none)."""
        self.inputs: list[JsonObject] = []
        """Distinct inputs in file order: the traffic to replay."""
        self._replies: dict[str, Reply] = {}
        for asked, answer, counts in rows:
            key = canonical_json(asked)
            known = self._replies.setdefault(key, Reply(output=answer, **counts))
            if known.output != answer:
                raise ValueError(f"two rows have the same input and different answers; input number {len(self.inputs)}")
            if len(self._replies) > len(self.inputs):
                self.inputs.append(asked)

    @classmethod
    def load(
        cls,
        path: Path,
        *,
        input_fields: Sequence[str],
        answer_field: str | Mapping[str, str],
        token_fields: Mapping[str, str] | None = None,
        limit: int | None = None,
        first_wins: bool = False,
    ) -> Self:
        """Read a file of JSON lines.

        The input of a row is the object of its ``input_fields``. ``answer_field`` names the row's field that holds the
        answer (an object, or a value that becomes ``{answer_field: value}``), or maps fields of the answer to fields of
        the row. ``token_fields`` maps field names of :class:`Reply`, such as ``output_tokens``, to fields of the row.
        ``first_wins`` keeps the first of several answers to one input. Raises ``ValueError`` naming the line.
        """
        rows: list[tuple[JsonObject, JsonObject, dict[str, int]]] = []
        seen: set[str] = set()
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if limit is not None and len(rows) >= limit:
                    break
                try:
                    row: dict[str, Any] = msgspec.json.decode(line, type=dict[str, Any])
                    asked = {name: row[name] for name in input_fields}
                    answer = _answer(row, answer_field)
                    counts = {count: int(row[name]) for count, name in (token_fields or {}).items()}
                except (KeyError, msgspec.DecodeError) as error:
                    raise ValueError(f"{path}, line {number}: {error!r}; check the field names") from None
                key = canonical_json(asked)
                if not (first_wins and key in seen):
                    rows.append((asked, answer, counts))
                seen.add(key)
        return cls(rows)

    def __call__(self, asked: JsonObject) -> Reply:
        """The recorded reply. Raises ``LookupError`` for an input that was never recorded."""
        try:
            return self._replies[canonical_json(asked)]
        except KeyError:
            raise LookupError(f"none of the {len(self._replies)} recorded inputs is this one") from None

    def __len__(self) -> int:
        return len(self._replies)


def _answer(row: Mapping[str, Any], field: str | Mapping[str, str]) -> JsonObject:
    if isinstance(field, str):
        value = row[field]
        return value if isinstance(value, dict) else {field: value}
    return {name: row[source] for name, source in field.items()}
