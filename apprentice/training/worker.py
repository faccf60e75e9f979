"""The process in which embedded versions are trained: ``python -m apprentice.training.worker``.

One JSON line per job on standard input; JSON lines on standard output: any number of
``{"progress": [fraction, message]}``, then ``{"done": {…}}`` or ``{"failed": reason}``. It ends when standard input
does. Anything a library prints goes to standard error, so that it cannot break the protocol.
"""

import hashlib
import os
import sys
import time
import traceback
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

import msgspec

from apprentice.errors import ApprenticeError
from apprentice.local.embedded import BASE
from apprentice.local.student import Settings, Student, train
from apprentice.training.tuned_encoders import Encoders
from apprentice.training.versions import VersionError, write_version
from apprentice_actors.ports import Example, TrainingJob

_NICENESS = 10
"""Answers come before training."""


class Refused(Exception):
    """The job cannot be done as it stands."""


class Worker:
    """Does one job after the other; encoders and vectors are kept between them."""

    def __init__(self, replies: BinaryIO) -> None:
        self._replies = replies
        self._encoders = Encoders()

    def handle(self, line: bytes) -> None:
        """Do the job of one line and reply."""
        try:
            done = self._train(msgspec.json.decode(line, type=TrainingJob))
        except (Refused, VersionError, ApprenticeError, ValueError, OSError) as error:
            traceback.print_exc()
            self._reply({"failed": str(error)})
        else:
            self._reply({"done": done})

    def _train(self, job: TrainingJob) -> dict[str, Any]:
        start = time.monotonic()
        try:
            settings = msgspec.convert(dict(job.settings), Settings)
        except msgspec.ValidationError as error:
            raise Refused(f"a setting of the embedded trainer is wrong: {error}; correct or remove it") from error
        rows, held_out = read_examples(Path(job.train_file)), read_examples(Path(job.calibration_file))
        refuse_leak(rows, held_out)
        with TemporaryDirectory(prefix="apprentice-encoder-") as work:
            chosen = self._encoders.choose(job, settings, rows, Path(work), self._progress)
            student, metrics = train(
                rows,
                held_out,
                schema=job.output_schema,
                match_fields=job.match_fields,
                settings=settings,
                encoder=chosen.encoder,
                adapter=chosen.adapter,
                progress=self._progress,
            )
            if chosen.gain is not None:
                metrics["encoder_gain"] = chosen.gain
            manifest = self._write(job, student, metrics)
        return {"manifest_sha256": manifest, "seconds": time.monotonic() - start, "metrics": metrics}

    def _write(self, job: TrainingJob, student: Student, metrics: dict[str, float]) -> str:
        return write_version(
            Path(job.folder),
            student.save,
            version=job.version,
            base=BASE,
            parent=job.parent,
            dataset=_digest(Path(job.train_file)),
            calibration=_digest(Path(job.calibration_file)),
            settings={**job.settings, "seed": job.seed, "match_fields": list(job.match_fields)},
            metrics=metrics,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        )

    def _progress(self, fraction: float, message: str) -> None:
        self._reply({"progress": [fraction, message]})

    def _reply(self, message: dict[str, Any]) -> None:
        self._replies.write(msgspec.json.encode(message) + b"\n")
        self._replies.flush()


def read_examples(path: Path) -> list[Example]:
    """The rows of a JSONL file. Raises ``ValueError`` naming the line."""
    rows = []
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                rows.append(msgspec.json.decode(line, type=Example))
            except msgspec.DecodeError as error:
                raise ValueError(f"{path}, line {number} is not an example: {error}; write the file again") from error
    return rows


def refuse_leak(rows: list[Example], held_out: list[Example]) -> None:
    """Raise :class:`Refused` where a held-out input stands among the training rows."""
    trained = {_spell(row) for row in rows}
    for row in held_out:
        if _spell(row) in trained:
            raise Refused(
                f"the input of the held-out request {row.request} is in the training file too; "
                "measured on it the version would look better than it is: split by the hash of the input"
            )


def _spell(row: Example) -> bytes:
    return msgspec.json.encode(row.input, order="sorted")


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main() -> None:
    """Serve jobs until standard input ends."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    if hasattr(os, "nice"):
        os.nice(_NICENESS)
    worker = Worker(replies)
    for line in sys.stdin.buffer:
        worker.handle(line)


if __name__ == "__main__":
    main()
