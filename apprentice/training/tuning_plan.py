"""What is sent to a vendor that trains: rows as chats, and the job around them."""

import re
from hashlib import sha256
from pathlib import Path

import msgspec

from apprentice.config import LocalConfig, TrainingConfig
from apprentice.local import chat
from apprentice.local.hosted import HOSTED
from apprentice.remote.prompt import canonical_json
from apprentice.training.honoured import settings_of
from apprentice.training.tuned_version import Hosted
from apprentice.training.versions import VersionError, check_manifest
from apprentice.training.worker import Refused as Leaking
from apprentice.training.worker import read_examples, refuse_leak
from apprentice_actors.ports import Example, JsonObject, LocalFailure, Question, TrainingFailure, TrainingJob

ROWS_MIN = 10
"""The vendor trains on no fewer examples."""
EPOCHS_MAX, BATCH_MAX, SUFFIX_MAX = 50, 256, 40
"""What the vendor takes."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A job as the vendor gets it."""

    job: TrainingJob
    settings: TrainingConfig
    base_model: str
    rows: list[Example]
    held_out: list[Example]
    content: bytes
    """The file to train on."""
    body: JsonObject
    """The job, but for the file's id."""
    asked: str
    """Digest of what decides the outcome: equal for attempts at the same, whatever number they have."""


def make_plan(job: TrainingJob, local: LocalConfig) -> Plan:
    """Read and check the data of a job. Raises :class:`TrainingFailure`."""
    if Path(job.folder).exists():
        raise TrainingFailure(f"{job.folder} exists already; train {job.task} under a new version number")
    try:
        rows, held_out = read_examples(Path(job.train_file)), read_examples(Path(job.calibration_file))
        refuse_leak(rows, held_out)
        settings = settings_of(local.training, job)
        content = b"".join(_line(job, row) for row in rows)
    except (OSError, ValueError, Leaking, LocalFailure) as error:
        raise TrainingFailure(f"{job.version} could not be trained: {error}") from error
    if len(rows) < ROWS_MIN:
        few = f"{job.train_file} has {len(rows) or 'no'} rows; the vendor wants at least {ROWS_MIN}"
        raise TrainingFailure(f"{job.version} could not be trained: {few}")
    base = str(job.settings.get("base_model") or local.base_model)
    decisive: JsonObject = {
        "model": _parent(job, settings, base) or base,
        "method": {"type": "supervised", "supervised": {"hyperparameters": _hyperparameters(settings)}},
    }
    name = re.sub(r"[^A-Za-z0-9-]+", "-", job.task)[:SUFFIX_MAX]
    return Plan(
        job=job,
        settings=settings,
        base_model=base,
        rows=rows,
        held_out=held_out,
        content=content,
        body={**decisive, "seed": job.seed % 2**31, "suffix": name, "metadata": {"version": job.version}},
        asked=sha256(canonical_json(decisive).encode() + b"\n" + content).hexdigest(),
    )


def question_of(job: TrainingJob, row: Example) -> Question:
    """A row as it is asked."""
    return Question(
        task=job.task,
        input=row.input,
        description=job.description,
        output_schema=job.output_schema,
        tools=job.tools,
    )


def _line(job: TrainingJob, row: Example) -> bytes:
    question = question_of(job, row)
    answer = {"role": "assistant", "content": chat.target(row.output, chat.answer_schema(question))}
    return msgspec.json.encode({"messages": [*chat.messages(question), answer]}) + b"\n"


def _hyperparameters(settings: TrainingConfig) -> dict[str, int]:
    return {"n_epochs": settings.epochs, "batch_size": settings.batch_size}


def _parent(job: TrainingJob, settings: TrainingConfig, base: str) -> str | None:
    """The parent's name at the vendor, where a version is to start from it and it comes from the same base."""
    if not settings.continue_from_parent or job.parent_folder is None:
        return None
    try:
        parent = check_manifest(Path(job.parent_folder))
        hosted = msgspec.json.decode((Path(job.parent_folder) / HOSTED).read_bytes(), type=Hosted)
    except (VersionError, OSError, msgspec.DecodeError):
        return None
    return hosted.model if parent.base == base else None
