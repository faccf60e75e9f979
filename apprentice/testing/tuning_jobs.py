"""What a simulated provider keeps of fine-tuning: uploaded files, and jobs that stand where the clock says."""

import math
from typing import Literal

import msgspec

from apprentice_actors.ports import JsonObject

_VALIDATED, _STARTED = 0.1, 0.2
"""Shares of a job's time after which its files are validated and its steps begin."""

type Status = Literal["validating_files", "queued", "running", "succeeded", "failed", "cancelled"]
ENDED: frozenset[Status] = frozenset({"succeeded", "failed", "cancelled"})


class StoredFile(msgspec.Struct, frozen=True, kw_only=True):
    """An uploaded file."""

    id: str
    name: str
    content: bytes
    created_at: int

    def shown(self) -> JsonObject:
        """As the API shows it."""
        return {
            "id": self.id,
            "object": "file",
            "bytes": len(self.content),
            "created_at": self.created_at,
            "filename": self.name,
            "purpose": "fine-tune",
            "status": "processed",
            "status_details": None,
        }


class TuningJob(msgspec.Struct, kw_only=True):
    """A job as it was asked for. ``started`` is on the clock's monotonic scale."""

    id: str
    model: str
    training_file: str
    validation_file: str | None
    epochs: int
    batch: int
    multiplier: float
    seed: int
    suffix: str
    metadata: dict[str, str] | None
    created_at: int
    started: float
    seconds: float
    rows: int
    tokens: int
    """Tokens of the training file."""
    fault: tuple[str, str] | None = None
    """Code and message of the error that ends it, if one does."""
    cancelled: float | None = None
    """When it was cancelled, on the scale of ``started``."""

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole job."""
        return self.epochs * -(-self.rows // self.batch)

    @property
    def fine_tuned_model(self) -> str:
        """The name that the model will have. Tuning a tuned model starts a name of its own."""
        base = self.model.split(":")[1] if self.model.startswith("ft:") else self.model
        return f"ft:{base}:simulated:{self.suffix}:{self.id[-8:]}"

    def share(self, now: float) -> float:
        """How much of its time is over."""
        until = now if self.cancelled is None else min(now, self.cancelled)
        return 1.0 if self.seconds <= 0 else min(1.0, (until - self.started) / self.seconds)

    def status(self, now: float) -> Status:
        """Where it stands."""
        share = self.share(now)
        if self.fault is not None and share >= self._breaks_at:
            return "failed"
        if share >= 1.0:
            return "succeeded"
        if self.cancelled is not None:
            return "cancelled"
        return "validating_files" if share < _VALIDATED else "queued" if share < _STARTED else "running"

    @property
    def _breaks_at(self) -> float:
        """Files that cannot be used are found at validation; other faults come halfway."""
        return _VALIDATED if self.fault is not None and self.fault[0].startswith("invalid_") else 0.5

    def shown(self, now: float) -> JsonObject:
        """As the API shows it."""
        status = self.status(now)
        tuned = {"n_epochs": self.epochs, "batch_size": self.batch, "learning_rate_multiplier": self.multiplier}
        error = {"code": self.fault[0], "message": self.fault[1], "param": None} if self.fault else None
        return {
            "id": self.id,
            "object": "fine_tuning.job",
            "model": self.model,
            "created_at": self.created_at,
            "finished_at": self.created_at + math.ceil(self.seconds) if status in ENDED else None,
            "fine_tuned_model": self.fine_tuned_model if status == "succeeded" else None,
            "organization_id": "org-simulated",
            "result_files": [],
            "status": status,
            "validation_file": self.validation_file,
            "training_file": self.training_file,
            "hyperparameters": tuned,
            "trained_tokens": self.tokens * self.epochs if status == "succeeded" else None,
            "error": error if status == "failed" else None,
            "seed": self.seed,
            "estimated_finish": None,
            "integrations": [],
            "metadata": self.metadata,
            "method": {"type": "supervised", "supervised": {"hyperparameters": tuned}},
        }

    def events(self, now: float) -> list[JsonObject]:
        """What it told so far, the newest first, as the vendor lists it."""
        said = [
            {
                "object": "fine_tuning.job.event",
                "id": f"ftevent-{self.id[-8:]}-{number:06d}",
                "created_at": self.created_at + int(share * self.seconds),
                "level": level,
                "message": message,
                "data": data or {},
                "type": "metrics" if data else "message",
            }
            for number, (share, level, message, data) in enumerate(self._told(now))
        ]
        return said[::-1]

    def _told(self, now: float) -> list[tuple[float, str, str, JsonObject | None]]:
        """What was said so far: share of the time, level, message, data; the oldest first."""
        share, status = self.share(now), self.status(now)
        said: list[tuple[float, str, str, JsonObject | None]] = [
            (0.0, "info", f"Created fine-tuning job: {self.id}", None),
            (0.0, "info", f"Validating training file: {self.training_file}", None),
            (_VALIDATED, "info", "Files validated, moving job to queued state", None),
            (_STARTED, "info", "Fine-tuning job started", None),
        ]
        for step in range(1, self.steps + 1):
            at = _STARTED + (1.0 - _STARTED) * step / self.steps
            loss = round(2.0 * math.exp(-4.0 * step / self.steps), 4)
            data: JsonObject = {"step": step, "total_steps": self.steps, "train_loss": loss}
            said.append((at, "info", f"Step {step}/{self.steps}: training loss={loss:.2f}", data))
        end = self._breaks_at if status == "failed" else share
        said = [one for one in said if one[0] <= end]
        if status == "succeeded":
            said.append((1.0, "info", f"New fine-tuned model created: {self.fine_tuned_model}", None))
            said.append((1.0, "info", "The job has successfully completed", None))
        elif status == "failed":
            assert self.fault is not None
            said.append((end, "error", f"The job failed: {self.fault[1]}", None))
        elif status == "cancelled":
            said.append((end, "info", "Fine-tuning job cancelled", None))
        return said
