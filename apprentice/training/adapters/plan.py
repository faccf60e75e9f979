"""What the processes of an adapter's training are told, and what they reply. Read and written as JSON."""

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from apprentice.training.versions import sha256_of
from apprentice_actors.ports import JsonObject, Question, TrainingJob

PLAN = "plan.json"
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
"""The files of an adapter."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How an adapter is trained: the base model, and the keys of ``local.training`` that matter to a worker."""

    base_model: str
    """A folder or a name of the model hub."""
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    rank: int = 16
    alpha: int | None = None
    dropout: float = 0.05
    target_modules: tuple[str, ...] = ("all-linear",)
    learning_rate: float = 2e-4
    epochs: int = 3
    max_steps: int | None = None
    max_minutes: float = 120.0
    stuck_after_s: float = 900.0
    batch_size: int = 8
    gradient_accumulation: int = 1
    gradient_checkpointing: bool = True
    packing: bool = True
    max_length: int = 1024
    quantization: Literal["none", "4bit"] = "none"
    continue_from_parent: bool = True
    early_stopping: int = 3
    save_steps: int = 50
    weights: dict[str, float] = msgspec.field(default_factory=dict)
    balance: bool = False
    processes: int | None = None
    accelerate_config: str | None = None

    @property
    def scale(self) -> int:
        """LoRA's alpha."""
        return self.alpha if self.alpha is not None else 2 * self.rank

    @property
    def local(self) -> bool:
        """Whether the base model is a folder here, so that nothing is ever downloaded."""
        return Path(self.base_model).is_dir()


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A job with everything decided that is decided before a process starts."""

    job: TrainingJob
    settings: Settings
    work: str
    """The folder of the job's checkpoints."""
    processes: int = 1
    ends_at: float = math.inf
    """When the job's time is up, in seconds since the epoch."""

    def question(self, asked: JsonObject) -> Question:
        """An input as the local model will be asked about it."""
        job = self.job
        return Question(
            task=job.task,
            input=asked,
            description=job.description,
            output_schema=job.output_schema,
            tools=job.tools,
        )

    def fingerprint(self) -> str:
        """Equal for jobs that would go the same way: data, settings, task and parent; not the version or the seed."""
        job = self.job
        parent = _manifest_digest(Path(job.parent_folder)) if job.parent_folder is not None else None
        told: Mapping[str, Any] = {
            "train": sha256_of(Path(job.train_file)),
            "calibration": sha256_of(Path(job.calibration_file)),
            "settings": self.settings,
            "task": [job.task, job.description, job.output_schema, job.tools, job.match_fields],
            "parent": [job.parent, parent],
            "processes": [self.processes, len(job.devices)],
        }
        return hashlib.sha256(msgspec.json.encode(told, order="sorted")).hexdigest()

    def write(self) -> Path:
        """Into the work folder; returns the file."""
        path = Path(self.work) / PLAN
        path.write_bytes(msgspec.json.encode(self))
        return path

    @classmethod
    def read(cls, path: Path) -> "Plan":
        """Read it back."""
        return msgspec.json.decode(path.read_bytes(), type=cls)


class Done(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The version is written."""

    manifest_sha256: str
    metrics: dict[str, float]


class Reply(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A line of a worker's standard output: exactly one of these."""

    progress: tuple[float, str] | None = None
    done: Done | None = None
    failed: str | None = None


def parse_reply(line: str) -> Reply | None:
    """The reply on a line; None for any other line, such as what a library prints."""
    if not line.startswith("{"):
        return None
    try:
        return msgspec.json.decode(line, type=Reply)
    except msgspec.DecodeError:
        return None


def _manifest_digest(folder: Path) -> str | None:
    path = folder / "manifest.json"
    return sha256_of(path) if path.is_file() else None
