"""Datasets built from the log: the rows of :mod:`apprentice.training.rows` as files, and what they are made of.

API keys never stand in a file. A file holds what people wrote: it is readable for its owner alone.
"""

import os
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Literal

import msgspec

from apprentice.remote.secrets import redact as redact_secrets
from apprentice.training.rows import Gathered, Records, Redact, Row, gather, statistics
from apprentice_actors.ports import Dataset, Example, JsonObject
from apprentice_events.vocabulary import DatasetStatistics

ROWS_MAX = 20_000
"""Rows of each file; the newest are taken."""
OVER_LIMIT = f"older than the newest {ROWS_MAX:,}"


class ExportedRow(msgspec.Struct, frozen=True, kw_only=True):
    """A line of an exported dataset."""

    request: str
    input: JsonObject
    output: JsonObject
    source: Literal["remote", "correction", "import"]
    weight: float
    tags: tuple[str, ...]
    split: Literal["train", "holdout"]


class Export(msgspec.Struct, frozen=True, kw_only=True):
    """A dataset that was written for people and other programs."""

    path: str
    rows_train: int
    rows_holdout: int
    sha256: str
    statistics: DatasetStatistics


class LogDatasets:
    """Builds datasets from a task's stream. Implements :class:`apprentice_actors.ports.DatasetBuilder`."""

    def __init__(
        self, log: Records, redact: Redact = lambda task, row: row, labels: Mapping[str, Sequence[str]] | None = None
    ) -> None:
        """``labels`` names per task those fields of the output whose values are counted."""
        self._log = log
        self._redact = redact
        self._labels = labels or {}

    async def build(self, task: str, folder: Path, *, fresh_after: int, upto: int) -> Dataset:
        """Write ``train.jsonl`` and ``holdout.jsonl`` into ``folder``. Raises ``OSError`` where that cannot be done."""
        gathered = await gather(self._log, task, self._redact, fresh_after=fresh_after, upto=upto)
        train, holdout, told = self._halves(task, gathered)
        train_file, holdout_file = folder / "train.jsonl", folder / "holdout.jsonl"
        digest = sha256()
        for path, rows in ((train_file, train), (holdout_file, holdout)):
            content = _lines([row.shown for row in rows])
            _write(path, content)
            digest.update(len(content).to_bytes(8, "big") + content)
        return Dataset(
            train_file=train_file,
            holdout_file=holdout_file,
            rows_train=len(train),
            rows_holdout=len(holdout),
            sha256=digest.hexdigest(),
            statistics=told,
        )

    async def held_out(self, task: str, limit: int) -> list[Example]:
        """The newest held-out rows, as they are: whoever is asked about them sits behind the same redaction."""
        rows = (await gather(self._log, task, self._redact)).rows
        return [row.example for row in rows if row.holdout][-limit:]

    async def export(self, task: str, path: Path, *, fresh_after: int = 0) -> Export:
        """Write everything as one file, one :class:`ExportedRow` per line. Raises ``OSError``."""
        train, holdout, told = self._halves(task, await gather(self._log, task, self._redact, fresh_after=fresh_after))
        content = _lines([*(_exported(row, "train") for row in train), *(_exported(row, "holdout") for row in holdout)])
        _write(path, content)
        return Export(
            path=str(path),
            rows_train=len(train),
            rows_holdout=len(holdout),
            sha256=sha256(content).hexdigest(),
            statistics=told,
        )

    def _halves(self, task: str, gathered: Gathered) -> tuple[list[Row], list[Row], DatasetStatistics]:
        train = [row for row in gathered.rows if not row.holdout][-ROWS_MAX:]
        holdout = [row for row in gathered.rows if row.holdout][-ROWS_MAX:]
        kept, left_out = [*train, *holdout], dict(gathered.left_out)
        if surplus := len(gathered.rows) - len(kept):
            left_out[OVER_LIMIT] = surplus
        return train, holdout, statistics(kept, left_out, self._labels.get(task, ()))


def _exported(row: Row, split: Literal["train", "holdout"]) -> ExportedRow:
    shown = row.shown
    return ExportedRow(
        request=shown.request,
        input=shown.input,
        output=shown.output,
        source=shown.source,
        weight=shown.weight,
        tags=shown.tags,
        split=split,
    )


def _lines(rows: Sequence[msgspec.Struct]) -> bytes:
    return redact_secrets(b"".join(msgspec.json.encode(row) + b"\n" for row in rows).decode()).encode()


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all: an earlier file under this name stays until the new one is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(content)
    partial.replace(path)
