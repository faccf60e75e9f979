"""Datasets built from the log: what was collected, corrected and not erased, with the held-out rows kept apart.

A correction stands in for the remote's answer to the same request; of several rows with the same normalised input the
last one counts. Which side of the split a row is on was decided when it was collected, by the hash of its input.

Where personal data are redacted, rows are the same that read the same afterwards, and the first one decides the side
for all of them: otherwise a held-out input could differ from a trained one in nothing but a name that no model sees.
API keys never stand in a file.
"""

from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path

import msgspec

from apprentice.remote.secrets import redact as redact_secrets
from apprentice_actors.policy.holdout import input_hash
from apprentice_actors.ports import Dataset, Example
from apprentice_events.log import EventLog
from apprentice_events.vocabulary import ExampleCollected

ROWS_MAX = 20_000
"""Rows of a training file; the newest are taken."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """An example with its side of the split and its place in the order of collecting."""

    example: Example
    shown: Example
    """The example as a trainer may see it."""
    holdout: bool
    ordinal: int


class LogDatasets:
    """Builds datasets from a task's stream. Implements :class:`apprentice_actors.ports.DatasetBuilder`."""

    def __init__(self, log: EventLog, redact: Callable[[str, Example], Example] = lambda task, row: row) -> None:
        """``redact`` gives a task's row as a trainer may see it; what it raises ends the training."""
        self._log = log
        self._redact = redact

    async def build(self, task: str, folder: Path, *, fresh_after: int, upto: int) -> Dataset:
        """Write ``train.jsonl`` and ``holdout.jsonl`` into ``folder``. Raises ``OSError`` where that cannot be done."""
        rows = await self._rows(task, fresh_after, upto)
        train = [row.shown for row in rows if not row.holdout][-ROWS_MAX:]
        return _write(folder, train, [row.shown for row in rows if row.holdout][-ROWS_MAX:])

    async def held_out(self, task: str, limit: int) -> list[Example]:
        """The newest held-out rows, as they are: whoever is asked about them sits behind the same redaction."""
        rows = await self._rows(task, 0, None)
        return [row.example for row in rows if row.holdout][-limit:]

    async def _rows(self, task: str, fresh_after: int, upto: int | None) -> list[Row]:
        collected = await self._collected(task, upto)
        bodies = await self._log.get_bodies({digest for one in collected for digest in (one.input, one.output)})
        corrected = {one.request for one in collected if one.source == "correction"}
        latest: dict[bytes, Row] = {}
        sides: dict[bytes, bool] = {}
        for ordinal, one in enumerate(collected):
            superseded = one.source == "remote" and one.request in corrected
            if superseded or one.input not in bodies or one.output not in bodies:
                continue
            example = Example(
                request=one.request,
                input=msgspec.json.decode(bodies[one.input]),
                output=msgspec.json.decode(bodies[one.output]),
                weight=one.weight,
                source=one.source,
                tags=one.tags,
                fresh=ordinal >= fresh_after,
            )
            shown = self._redact(task, example)
            name = input_hash(shown.input)
            side = sides.setdefault(name, one.holdout)
            latest.pop(name, None)  # the newer row takes its place in the order too
            latest[name] = Row(example=example, shown=shown, holdout=side, ordinal=ordinal)
        return list(latest.values())

    async def _collected(self, task: str, upto: int | None) -> list[ExampleCollected]:
        found: list[ExampleCollected] = []
        async for record in self._log.read(stream=f"task/{task}", tags=(ExampleCollected.TAG,), limit=upto):
            event = record.event()
            assert isinstance(event, ExampleCollected)
            found.append(event)
        return found


def _write(folder: Path, train: Sequence[Example], holdout: Sequence[Example]) -> Dataset:
    folder.mkdir(parents=True, exist_ok=True)
    train_file, holdout_file = folder / "train.jsonl", folder / "holdout.jsonl"
    digest = sha256()
    for path, examples in ((train_file, train), (holdout_file, holdout)):
        lines = b"".join(msgspec.json.encode(example) + b"\n" for example in examples)
        content = redact_secrets(lines.decode()).encode()
        path.write_bytes(content)
        digest.update(len(content).to_bytes(8, "big") + content)
    return Dataset(
        train_file=train_file,
        holdout_file=holdout_file,
        rows_train=len(train),
        rows_holdout=len(holdout),
        sha256=digest.hexdigest(),
    )
