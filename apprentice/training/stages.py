"""A trainer of adapters as stages: commands in processes of their own, run one after the other, and what follows.

Every backend for adapters is this with its own commands. The last stage measures the adapter and writes the version.
"""

import asyncio
import importlib.util
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from apprentice.config import LocalConfig
from apprentice.errors import MissingExtra
from apprentice.training.adapters.plan import Done, Plan, Reply, Settings, parse_reply
from apprentice.training.process import Finished, run
from apprentice.training.versions import discard
from apprentice.training.work import close_work, open_work, resumable, state
from apprentice_actors.ports import TrainedVersion, TrainingFailure, TrainingJob


@dataclass(frozen=True)
class Stage:
    """A command of a training."""

    command: Sequence[str]
    environment: Mapping[str, str]
    read: Callable[[str], Reply | None] = parse_reply
    """What a line of its output means; None for a line of its log."""
    until: float = 1.0
    """How far the job is, as a fraction, when the stage ends; its own progress is from 0 to 1."""


class Interrupted(TrainingFailure):
    """A job was killed from outside: asked for again, it goes on from its checkpoint."""


class StagedTrainer:
    """Trains adapters by running stages. Implements :class:`apprentice_actors.ports.Trainer`.

    Jobs run side by side: whoever asks sees to it that no two have the same GPU. Of a job that ends without a version
    nothing stays, except its last checkpoint if it was cancelled or killed from outside.
    """

    def __init__(self, local: LocalConfig, stages: Callable[[Plan], Sequence[Stage]]) -> None:
        """``local`` has the settings that a job leaves out."""
        self._local = local
        self._stages = stages
        self._jobs: set[asyncio.Task[TrainedVersion]] = set()
        self._busy: set[Path] = set()
        self._closed = False

    async def train(self, job: TrainingJob, progress: Callable[[float, str], None]) -> TrainedVersion:
        """Train to the end. Whatever ends it early kills all its processes."""
        if self._closed:
            raise TrainingFailure(f"{job.version} cannot be trained: the trainer is closed")
        _refuse_existing(job)
        inner = asyncio.create_task(self._train(job, _Rising(progress)), name=f"training {job.version}")
        self._jobs.add(inner)
        try:
            return await inner
        except asyncio.CancelledError:
            own = asyncio.current_task()
            if own is not None and own.cancelling():
                raise
            raise TrainingFailure(f"{job.version} could not be trained: the trainer was closed") from None
        finally:
            self._jobs.discard(inner)

    async def aclose(self) -> None:
        """Stop the jobs in progress; they fail."""
        self._closed = True
        for job in self._jobs:
            job.cancel()
        if self._jobs:
            await asyncio.wait(self._jobs)

    async def _train(self, job: TrainingJob, progress: "_Rising") -> TrainedVersion:
        start = asyncio.get_running_loop().time()
        try:
            plan, left_s = self._open(self._plan(job))
        except OSError as error:
            raise TrainingFailure(f"{job.version} could not be trained: {error}") from error
        work, keep = Path(plan.work), False
        self._busy.add(work)
        try:
            done = await self._run(plan, progress, left_s)
        except OSError as error:
            discard(Path(job.folder))
            raise TrainingFailure(f"{job.version} could not be trained: {error}") from error
        except BaseException as error:
            keep = isinstance(error, asyncio.CancelledError | Interrupted)
            discard(Path(job.folder))
            raise
        finally:
            self._busy.discard(work)
            close_work(work, keep=keep)
        progress(1.0, "done")
        seconds = asyncio.get_running_loop().time() - start
        return TrainedVersion(manifest_sha256=done.manifest_sha256, seconds=seconds, metrics=done.metrics)

    def _open(self, plan: Plan) -> tuple[Plan, float]:
        """Make the work folder; returns the plan as it goes on, and the seconds left to it."""
        job = plan.job
        work = open_work(Path(job.folder), plan.fingerprint(), self._busy)
        before = state(work)
        job = msgspec.structs.replace(job, seed=int(before.get("seed", job.seed)), settings={})  # as it was drawn
        left_s = plan.settings.max_minutes * 60.0 - before.get("seconds", 0.0)
        plan = msgspec.structs.replace(plan, work=str(work), job=job, ends_at=time.time() + left_s)
        plan.write()
        return plan, left_s

    async def _run(self, plan: Plan, progress: "_Rising", left_s: float) -> Done:
        loop = asyncio.get_running_loop()
        settings, since = plan.settings, 0.0
        end = loop.time() + left_s
        for stage in self._stages(plan):
            listener = _Listener(stage, progress, since)
            finished = await run(
                stage.command,
                listener,
                environment=stage.environment,
                stuck_after_s=settings.stuck_after_s,
                time_cap_s=end - loop.time(),
            )
            if listener.done is not None:
                return listener.done
            if listener.failed is not None:
                raise TrainingFailure(f"{plan.job.version} could not be trained: {listener.failed}")
            if finished.ending != "exit" or finished.code != 0:
                raise _failure(plan, finished)
            since = stage.until
        raise TrainingFailure(f"{plan.job.version} could not be trained: the last command ended without a version")

    def _plan(self, job: TrainingJob) -> Plan:
        local = self._local
        configured = local.training.model_dump(mode="json", exclude={"token_price"})
        told = {"base_model": local.base_model, "dtype": local.dtype, **configured}
        for name in job.settings.keys() - told.keys():
            raise TrainingFailure(f"{job.version} could not be trained: there is no setting {name!r}; remove it")
        try:
            settings = msgspec.convert({**told, **job.settings}, Settings)
        except msgspec.ValidationError as error:
            raise TrainingFailure(
                f"{job.version} could not be trained: a setting is wrong: {error}; correct local.training"
            ) from error
        processes = settings.processes or max(1, len(job.devices))
        if job.devices and processes > len(job.devices):
            raise TrainingFailure(
                f"{job.version} could not be trained: {processes} processes for {len(job.devices)} GPUs; "
                "lower local.training.processes or leave it out"
            )
        return Plan(job=job, settings=settings, work="", processes=processes)


def require(packages: Sequence[str], what: str, extra: str) -> None:
    """Raise :class:`MissingExtra` unless all ``packages`` are installed."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtra(f"{what} needs {' and '.join(missing)}; install it: {extra}")


def _refuse_existing(job: TrainingJob) -> None:
    if Path(job.folder).exists():
        raise TrainingFailure(f"{job.folder} exists already; train {job.task} under a new version number")


class _Rising:
    """Passes progress on, never going back."""

    def __init__(self, told: Callable[[float, str], None]) -> None:
        self._told = told
        self._far = 0.0

    def __call__(self, fraction: float, message: str) -> None:
        if math.isfinite(fraction):
            self._far = max(self._far, min(fraction, 1.0))
        self._told(self._far, message)


class _Listener:
    """Hears a stage's lines."""

    def __init__(self, stage: Stage, progress: _Rising, since: float) -> None:
        self._stage, self._progress, self._since = stage, progress, since
        self.done: Done | None = None
        self.failed: str | None = None

    def __call__(self, line: str) -> bool:
        reply = self._stage.read(line)
        if reply is None:
            return False
        self.done = reply.done or self.done
        self.failed = reply.failed or self.failed
        if reply.progress is not None:
            fraction, message = reply.progress
            self._progress(self._since + fraction * (self._stage.until - self._since), message)
        return True


def _failure(plan: Plan, finished: Finished) -> TrainingFailure:
    """What the end of a command means, with advice and the end of its log."""
    advice: dict[str, Any] = {
        "stuck": f" after {plan.settings.stuck_after_s:g} s; raise local.training.stuck_after_s if it is only slow",
        "time": f" after {plan.settings.max_minutes:g} minutes; raise local.training.max_minutes",
    }
    said = advice.get(finished.ending, "")
    if finished.ending == "exit" and finished.out_of_memory:
        said = "; lower batch_size, max_length or rank in local.training, or write quantization: 4bit"
    killed = finished.ending == "exit" and finished.signal is not None and not finished.out_of_memory
    if killed and resumable(Path(plan.work)):
        said = "; its last checkpoint is kept, and the same training asked for again goes on from there"
    text = f"{plan.job.version} could not be trained: the worker broke down: {finished.reason}{said}{finished.tail}"
    return Interrupted(text) if killed else TrainingFailure(text)
