"""Which encoder a training job uses: the plain one, the one its parent was tuned to, or one that is tuned now."""

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from apprentice.local.encoder import Encoder, RememberingEncoder, SentenceEncoder, open_encoder
from apprentice.local.student import TIME_CAP_S, Settings, train
from apprentice.local.tuned import FOLDER, Adapter
from apprentice.training.encoder_tuning import due, lessons, note_seen, shown, tune
from apprentice_actors.ports import Example, TrainingJob

_TUNED_MAX = 4
"""Tuned encoders beside the one in use that stay open."""

type Progress = Callable[[float, str], None]


class Chosen(NamedTuple):
    """An encoder for one job."""

    encoder: Encoder | None
    adapter: Adapter | None = None
    gain: float | None = None
    """Of tuning in this job: agreement on rows that it has not seen, minus that of the encoder as it was."""


class Encoders:
    """The encoders of a worker, kept from job to job: reading weights takes seconds, and vectors can be used again."""

    def __init__(self, opened: Sequence[Encoder] = ()) -> None:
        """``opened`` are there already."""
        self._opened: dict[tuple[str, str], Encoder] = {(encoder.name, ""): encoder for encoder in opened}
        self._tried: dict[str, int] = {}

    def choose(
        self, job: TrainingJob, settings: Settings, rows: Sequence[Example], work: Path, progress: Progress
    ) -> Chosen:
        """The encoder for ``job``. New matrices are written into ``work``, which has to last until the job is done.

        What tuning made is used if it agrees at least as often as the encoder before it, on rows that it has not seen.
        """
        if settings.encoder is None:
            return Chosen(None)
        progress(0.02, f"loading the encoder {settings.encoder}")
        plain = self.open(settings.encoder)
        if settings.encoder_tuning == "none":
            return Chosen(plain)
        inherited = _inherited(job, plain)
        before = self.open(settings.encoder, inherited)
        tried = max(self._tried.get(job.task, 0), inherited.seen.rows if inherited is not None else 0)
        taught = lessons(shown(rows), job.output_schema, job.match_fields) if due(len(rows), tried) else None
        if taught is None:
            return Chosen(before, inherited)
        self._tried[job.task] = len(rows)
        tune(
            SentenceEncoder(settings.encoder).sentences,
            taught,
            seed=job.seed,
            folder=work,
            seconds_max=(settings.time_cap_s or TIME_CAP_S) / 3.0,
            progress=lambda share: progress(0.02 + 0.1 * share, "fine-tuning the encoder"),
        )
        adapter = note_seen(work, rows, plain.fingerprint)
        after = self.open(settings.encoder, adapter)
        gain = _agreement(job, settings, rows, after, adapter) - _agreement(job, settings, rows, before, adapter)
        if gain < 0.0:
            return Chosen(before, inherited, gain)
        return Chosen(after, adapter, gain)

    def open(self, name: str, adapter: Adapter | None = None) -> Encoder:
        """An encoder that remembers its texts. Raises what :func:`open_encoder` raises."""
        key = (name, adapter.sha256 if adapter is not None else "")
        if key not in self._opened:
            self._opened[key] = RememberingEncoder(open_encoder(name, adapter))
        tuned = [other for other in self._opened if other[1] and other != key]
        for old in tuned[:-_TUNED_MAX]:
            del self._opened[old]
        return self._opened[key]


def _inherited(job: TrainingJob, plain: Encoder) -> Adapter | None:
    """What the parent was tuned by, if it was, and on the encoder that is used now."""
    if job.parent_folder is not None:
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            adapter = Adapter.read(Path(job.parent_folder) / FOLDER)
            return adapter if adapter.seen.encoder_sha256 == plain.fingerprint else None
    return None


def _agreement(
    job: TrainingJob, settings: Settings, rows: Sequence[Example], encoder: Encoder, unseen_by: Adapter
) -> float:
    """Leave-one-out agreement with ``encoder`` on rows that ``unseen_by`` has not seen, nor any adapter before it."""
    _, metrics = train(
        rows,
        [],
        schema=job.output_schema,
        match_fields=job.match_fields,
        settings=settings,
        encoder=encoder,
        unseen_by=unseen_by,
    )
    return metrics["agreement_loo"]
