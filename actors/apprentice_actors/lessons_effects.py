"""Carrying out training, validation, loading and dropping of versions."""

import asyncio
import logging
import math
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from apprentice_events import vocabulary as v

from . import commands as c
from .actor import ActorStopped
from .local import Answer, Drop, Load, NameBase
from .mailbox import MailboxClosed
from .ports import Example, LocalAbsent, LocalAnswer, LocalFailure, TrainedVersion, TrainingFailure, TrainingJob
from .supervision import ActorIsolated
from .trainer import Train

if TYPE_CHECKING:
    from .task import TaskSupervisor

logger = logging.getLogger(__name__)

DATA = "data"
"""The folder of a task's datasets, beside its versions."""
HELD_OUT_ROWS_MAX = 500
ANSWERS_AT_ONCE = 8
LOAD_S = 600.0
TRAINING_S = 7 * 86400.0
"""A bound on everything: no job is waited for longer than a week; trainers have tighter limits of their own."""


def folder_of(task: "TaskSupervisor", version: str) -> Path:
    """``MODEL_DIR/TASK/vN`` for ``TASK@vN``."""
    name, _, number = version.rpartition("@")
    return task.spec.model_dir / name / number


def discard_data(folder: Path) -> None:
    """Remove the datasets in ``folder``: they hold what people wrote, and no training needs them any more."""
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        return
    except OSError as error:
        logger.error("%s holds inputs of people and cannot be removed (%s); delete it by hand", folder, error)


async def train(task: "TaskSupervisor", effect: c.StartTraining) -> c.Command | None:
    """Build the dataset, hold the slot, train. Whatever comes of it, the dataset does not stay."""
    folder = folder_of(task, effect.version)
    data = folder.parent / DATA / folder.name
    try:
        return await _train(task, effect, data)
    finally:
        discard_data(data)


async def _train(task: "TaskSupervisor", effect: c.StartTraining, data: Path) -> c.Command | None:
    """A job that the runtime's end cuts off is closed by the next recovery."""
    known = task.state.versions.known[effect.version]
    folder = folder_of(task, effect.version)
    try:
        dataset = await task.ports.datasets.build(
            task.spec.name,
            data,
            fresh_after=task.state.versions.trained_examples,
            upto=known.examples,
        )
        task.tell(
            c.TrainingBegan(
                job=effect.job,
                rows_train=dataset.rows_train,
                rows_holdout=dataset.rows_holdout,
                dataset=dataset.sha256,
                statistics=dataset.statistics,
            )
        )
        job = TrainingJob(
            job=effect.job,
            task=task.spec.name,
            version=effect.version,
            parent=effect.parent,
            parent_folder=str(folder_of(task, effect.parent)) if effect.parent is not None else None,
            folder=str(folder),
            train_file=str(dataset.train_file),
            calibration_file=str(dataset.holdout_file),
            output_schema=task.spec.output_schema,
            match_fields=task.spec.match_fields,
            seed=task.state.versions.made,
            description=task.spec.description,
            tools=task.spec.tools,
            settings=task.spec.training,
        )
        made: TrainedVersion = await task.ports.trainer.ask(
            lambda reply: Train(job=job, progress=_reporter(task, effect.job), reply=reply), TRAINING_S
        )
    except (TrainingFailure, OSError) as error:
        return c.TrainingBroke(job=effect.job, version=effect.version, reason=str(error))
    except ActorIsolated as error:
        return c.TrainingBroke(job=effect.job, version=effect.version, reason=str(error))
    except MailboxClosed as error:
        if task.ports.trainer.mailbox.closed:
            return None
        reason = f"the trainer's desk was restarted: {error}"
        return c.TrainingBroke(job=effect.job, version=effect.version, reason=reason, interrupted=True)
    trained = v.AdapterTrained(
        job=effect.job,
        version=effect.version,
        parent=effect.parent,
        manifest=made.manifest_sha256,
        examples=dataset.rows_train,
        seconds=made.seconds,
        cost_nd=made.cost_nd + round(made.seconds * 1000 * task.spec.local_nd_per_ms),
        metrics={name: float(value) for name, value in made.metrics.items() if math.isfinite(value)},
    )
    return c.TrainingDone(trained=trained)


def _reporter(task: "TaskSupervisor", job: str) -> "_Progress":
    return _Progress(task, job)


class _Progress:
    """Passes progress on, at most once per twentieth: the log keeps milestones, not a ticker."""

    def __init__(self, task: "TaskSupervisor", job: str) -> None:
        self._task = task
        self._job = job
        self._told = 0.0

    def __call__(self, fraction: float, message: str) -> None:
        if fraction >= self._told + 0.05:
            self._told = fraction
            self._task.tell(c.TrainingMoved(job=self._job, fraction=fraction, message=message))


async def validate(task: "TaskSupervisor", effect: c.Validate) -> c.Command | None:
    """Candidate and incumbent, or the untrained base, answer the same held-out rows through the same server.

    Where there is no local model on purpose, the candidate waits for a process that has one.
    """
    try:
        await load(task, effect.version)
        base: str | None = None
        if effect.incumbent is None:
            base = await task.ports.local.ask(lambda reply: NameBase(reply=reply), LOAD_S)
        rows = await compare_held_out(task, effect.version, effect.incumbent or base)
    except LocalAbsent:
        return None
    except (LocalFailure, TrainingFailure, ActorStopped, MailboxClosed, TimeoutError) as error:
        return c.ValidationBroke(version=effect.version, reason=str(error))
    return c.ValidationDone(version=effect.version, incumbent=effect.incumbent, base=base, rows=rows)


async def compare_held_out(task: "TaskSupervisor", version: str, other: str | None) -> tuple[c.HeldOutRow, ...]:
    """The newest held-out rows, answered by ``version`` and, where one is named, by ``other``."""
    rows = await task.ports.datasets.held_out(task.spec.name, HELD_OUT_ROWS_MAX)
    gate = asyncio.Semaphore(ANSWERS_AT_ONCE)

    async def scored(row: Example) -> c.HeldOutRow:
        async with gate:
            candidate = await _score_version(task, version, row)
            incumbent = await _score_version(task, other, row) if other is not None else None
        return c.HeldOutRow(candidate=candidate, incumbent=incumbent, tags=row.tags)

    return tuple(await asyncio.gather(*(scored(row) for row in rows)))


async def _score_version(task: "TaskSupervisor", version: str, row: Example) -> float:
    """The version's score on a row; an answer that fails or breaks the schema scores 0, for both sides alike."""
    question = task.question(row.input)
    try:
        answer: LocalAnswer = await task.ports.local.ask(
            lambda reply: Answer(question=question, version=version, reply=reply), task.spec.deadline_s
        )
    except LocalAbsent:
        raise
    except LocalFailure:
        return 0.0
    if task.ports.validator(answer.output) is not None:
        return 0.0
    try:
        return await task.ports.evaluator.score(answer.output, row.output, question)
    except Exception as error:
        logger.warning("the evaluator failed on a held-out row of %s", task.spec.name, exc_info=error)
        return 0.0


async def load_version(task: "TaskSupervisor", effect: c.LoadVersion) -> None:
    """Have a version served; one that cannot be loaded fails its requests, which go to the remote."""
    try:
        await load(task, effect.version)
    except (LocalFailure, ActorStopped, MailboxClosed, TimeoutError) as error:
        logger.error("%s could not be loaded: %s", effect.version, error)


async def load(task: "TaskSupervisor", version: str) -> None:
    """Have a version checked and held by the local server. Raises :class:`LocalFailure`."""
    folder, known = folder_of(task, version), task.state.versions.known[version]
    await task.ports.local.ask(
        lambda reply: Load(version=version, folder=folder, manifest_sha256=known.manifest or None, reply=reply), LOAD_S
    )


async def drop_version(task: "TaskSupervisor", effect: c.DropVersion) -> None:
    """Unload, and delete where that is meant."""
    folder = folder_of(task, effect.version) if effect.delete else None
    task.ports.local.tell(Drop(version=effect.version, folder=folder))


async def sweep_versions(task: "TaskSupervisor", effect: c.SweepVersions) -> None:
    """Delete folders that a crash left."""
    for version in effect.versions:
        shutil.rmtree(folder_of(task, version), ignore_errors=True)
