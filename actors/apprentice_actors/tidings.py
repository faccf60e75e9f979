"""News that no request brought: what a provider announces about a teacher, what the purse asks for. Pure."""

from apprentice_events import vocabulary as v
from apprentice_events.task_state import TaskState

from . import commands as c
from .decision import NOTHING, Decision
from .policy.pacing import worth_telling
from .settings import TaskSettings

TEACHER = "teacher"
"""The alert that a teacher is about to end."""


def teacher_noticed(state: TaskState, settings: TaskSettings, command: c.TeacherNoticed, now_ns: int) -> Decision:
    """Record an announcement once, and once more when it is taken back; the same news again is none."""
    known = state.teachers.known.get(command.teacher)
    notice = command.notice or ""
    if notice == (known.notice if known is not None else ""):
        return NOTHING
    return Decision((v.TeacherNoticed(teacher=command.teacher, notice=notice),))


def paced(state: TaskState, settings: TaskSettings, command: c.Paced, now_ns: int) -> Decision:
    """Record a change of speed that makes a difference."""
    if not settings.pacing or not worth_telling(state.pace, command.factor):
        return NOTHING
    return Decision((v.SpendPaced(factor=command.factor, reason=command.reason),))


def watch_teachers(state: TaskState, settings: TaskSettings) -> Decision:
    """As long as a configured teacher is announced to end, an alert names it, the date and the way out."""
    known = state.teachers.known
    ending = [f"{name} {known[name].notice}" for name, _ in settings.licences if name in known and known[name].notice]
    if not ending:
        return Decision((v.AlertCleared(alert=TEACHER),)) if TEACHER in state.alerts else NOTHING
    message = (
        f"{'; '.join(ending)}. The evidence has started again. Choose a successor and write its name under `remote` in "
        "the configuration, or add it under `additional_providers` first and compare"
    )
    if state.alerts.get(TEACHER) == message:
        return NOTHING
    return Decision((v.AlertRaised(alert=TEACHER, severity="warning", message=message),))
