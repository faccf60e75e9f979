"""Epochs of evidence: each restart of the processes spends the next share of the error budget. Pure."""

from apprentice_events import vocabulary as v
from apprentice_events.task_state import TaskState

from .policy.certificate import share
from .settings import TaskSettings


def restarted(state: TaskState, settings: TaskSettings, reason: str) -> v.EvidenceRestarted:
    """The event that starts the processes afresh, with the next share of the error budget."""
    epoch = state.evidence.epoch + 1
    return v.EvidenceRestarted(
        epoch=epoch,
        reason=reason,
        guarantee=settings.guarantee,
        alpha=share(settings.alpha, epoch),
        gates=settings.gates,
        window_size=settings.window_size,
        false_alarm_every=settings.false_alarm_every,
    )
