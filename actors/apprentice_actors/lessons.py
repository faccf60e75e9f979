"""The decisions about training and versions: what follows when a job, a validation or a person reports. Pure."""

from typing import Literal

from apprentice_events import vocabulary as v
from apprentice_events.task_state import TaskState

from . import commands as c
from .decision import NOTHING, Decision
from .policy.promotion import judge_held_out
from .policy.triggers import STRIKES, Cause, due
from .settings import TaskSettings


def begin_training(state: TaskState, settings: TaskSettings, now_ns: int) -> Decision:
    """Train, where that is due."""
    cause = due(state, settings, now_ns)
    if cause is None:
        return NOTHING
    event, effect = trigger(state, cause)
    return Decision((event,), (effect,))


def time_passed(state: TaskState, settings: TaskSettings, command: c.TimePassed, now_ns: int) -> Decision:
    """Nothing happened but time: a schedule or a wait may have come to its end."""
    return begin_training(state, settings, now_ns)


def training_began(state: TaskState, settings: TaskSettings, command: c.TrainingBegan, now_ns: int) -> Decision:
    """The dataset is written."""
    if not _under_way(state, command.job):
        return NOTHING
    event = v.TrainingStarted(
        job=command.job,
        rows_train=command.rows_train,
        rows_holdout=command.rows_holdout,
        dataset=command.dataset,
        statistics=command.statistics,
    )
    return Decision((event,))


def training_moved(state: TaskState, settings: TaskSettings, command: c.TrainingMoved, now_ns: int) -> Decision:
    """The trainer reports."""
    if not _under_way(state, command.job):
        return NOTHING
    return Decision((v.TrainingProgressed(job=command.job, fraction=command.fraction, message=command.message),))


def training_done(state: TaskState, settings: TaskSettings, command: c.TrainingDone, now_ns: int) -> Decision:
    """A version exists: have it examined. A job that recovery has closed meanwhile made nothing that counts."""
    if not _under_way(state, command.trained.job):
        return NOTHING
    examine = c.Validate(version=command.trained.version, incumbent=state.versions.champion)
    return Decision((command.trained,), (examine,))


def training_broke(state: TaskState, settings: TaskSettings, command: c.TrainingBroke, now_ns: int) -> Decision:
    """No version: the examples stay unused; after three in a row a person has to look."""
    if not _under_way(state, command.job):
        return NOTHING
    failed = v.TrainingFailed(
        job=command.job, version=command.version, reason=command.reason, interrupted=command.interrupted
    )
    if command.interrupted:
        return Decision((failed,))
    events: list[v.Event] = [failed]
    if state.versions.failures_in_a_row + 1 >= STRIKES and "training" not in state.alerts:
        message = (
            f"{STRIKES} trainings in a row failed, the last one: {command.reason}. Training waits for an operator."
        )
        events.append(v.AlertRaised(alert="training", severity="critical", message=message))
    return Decision(tuple(events))


def validation_done(state: TaskState, settings: TaskSettings, command: c.ValidationDone, now_ns: int) -> Decision:
    """Both versions answered the held-out rows: reject, or let the candidate challenge; a first one is champion."""
    if command.version != state.versions.candidate:
        return NOTHING
    verdict = judge_held_out(command.rows, settings.must_pass, untrained=command.base is not None)
    incumbent = command.incumbent or command.base
    if not verdict.accepted:
        rejected = v.AdapterRejected(
            version=command.version,
            score=verdict.score,
            incumbent=incumbent,
            incumbent_score=verdict.incumbent_score,
            rows=len(command.rows),
            reason=verdict.reason,
            slices=verdict.slices,
        )
        return Decision((rejected,), (c.DropVersion(version=command.version, delete=True),))
    validated = v.AdapterValidated(
        version=command.version,
        score=verdict.score,
        incumbent=incumbent,
        incumbent_score=verdict.incumbent_score,
        rows=len(command.rows),
        reason=verdict.reason,
        slices=verdict.slices,
    )
    if state.versions.champion is None:
        loaded = v.AdapterLoaded(version=command.version, role="champion")
        promoted = v.AdapterPromoted(version=command.version, before=None, reason=verdict.reason)
        return Decision((validated, loaded, promoted, *_training_recovered(state)))
    loaded = v.AdapterLoaded(version=command.version, role="challenger")
    return Decision((validated, loaded, *_training_recovered(state)))


def _training_recovered(state: TaskState) -> tuple[v.Event, ...]:
    return (v.AlertCleared(alert="training"),) if "training" in state.alerts else ()


def validation_broke(state: TaskState, settings: TaskSettings, command: c.ValidationBroke, now_ns: int) -> Decision:
    """The candidate could not be asked: it is not good enough."""
    if command.version != state.versions.candidate:
        return NOTHING
    rejected = v.AdapterRejected(
        version=command.version,
        score=None,
        incumbent=state.versions.champion,
        incumbent_score=None,
        rows=0,
        reason=command.reason,
    )
    return Decision((rejected,), (c.DropVersion(version=command.version, delete=True),))


def correction_given(state: TaskState, settings: TaskSettings, command: c.CorrectionGiven, now_ns: int) -> Decision:
    """A person's answer is an example of its own; building a dataset prefers it to the remote's."""
    corrected = v.CorrectionReceived(request=command.request, output=command.output, author=command.author)
    example = v.ExampleCollected(
        request=command.request,
        input=command.input,
        output=command.output,
        source="correction",
        holdout=command.holdout,
        tags=command.tags,
    )
    return Decision((corrected, example))


def feedback_given(state: TaskState, settings: TaskSettings, command: c.FeedbackGiven, now_ns: int) -> Decision:
    """A rating is recorded."""
    return Decision((v.FeedbackReceived(request=command.request, rating=command.rating, comment=command.comment),))


def _under_way(state: TaskState, job: str) -> bool:
    return state.versions.job is not None and state.versions.job.job == job


def trigger(state: TaskState, cause: Cause | Literal["manual"]) -> tuple[v.TrainingTriggered, c.StartTraining]:
    """The event and the effect of a new training job; version numbers are never used twice."""
    number = state.versions.made + 1
    version, job = f"{state.task}@v{number}", f"{state.task}/job-{number}"
    parent = state.versions.champion
    event = v.TrainingTriggered(
        job=job,
        version=version,
        parent=parent,
        cause=cause,
        examples=state.collected,
    )
    return event, c.StartTraining(job=job, version=version, parent=parent)
