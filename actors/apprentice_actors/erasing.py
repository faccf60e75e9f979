"""Decisions about content that was erased, and about the versions that had learned from it. Pure."""

from apprentice_events import vocabulary as v
from apprentice_events.task_state import TaskState

from . import commands as c
from .decision import NOTHING, Decision
from .settings import TaskSettings

ALERT = "erased"


def erase_asked(state: TaskState, settings: TaskSettings, command: c.EraseAsked, now_ns: int) -> Decision:
    """One event per body. The content goes once these are durable, or at the next start if a crash comes between."""
    return Decision(
        tuple(
            v.BodyErased(body=body, reason=command.reason, request=command.request, versions=command.versions)
            for body in command.bodies
        )
    )


def watch_erased(state: TaskState, settings: TaskSettings) -> Decision:
    """As long as a version that learned from erased content is on disk, or in the making, somebody should know."""
    versions = state.versions
    made = {*versions.kept(), versions.job.version if versions.job is not None else None}
    tainted = [name for name in versions.saw_erased if name in made]
    told = state.alerts.get(ALERT)
    if not tainted:
        return Decision((v.AlertCleared(alert=ALERT),)) if told is not None else NOTHING
    message = (
        f"{', '.join(tainted)} learned from content that was erased since and should be retired: have a new version "
        f"trained, which does without it, let it take over, then `apprentice versions retire` each; by themselves the "
        f"last {settings.keep_versions} versions are kept"
    )
    return NOTHING if told == message else Decision((v.AlertRaised(alert=ALERT, severity="warning", message=message),))
