"""What a fresh life finds dangling, and how it is closed. Pure.

A call that was under way when the process died may have been billed: it is charged at its reserved maximum, and nobody
is asked again, for the caller is gone. Spend may be overstated by a crash, never understated.
"""

from apprentice_events import vocabulary as v
from apprentice_events.task_state import TaskState

from . import commands as c
from .decision import Decision


def recover(state: TaskState) -> Decision:
    """Close every request in flight as unknown and the training job as interrupted; load what serves.

    Files of versions that are not kept are deleted: the last life may have ended before it came to that.
    """
    events: list[v.Event] = []
    effects: list[c.Effect] = []
    for request, flight in state.flights.items():
        charged = sum(flight.calls.values())
        events += [
            v.BudgetSettled(request=request, attempt=attempt, amount_nd=reserved, reserved_nd=reserved)
            for attempt, reserved in flight.calls.items()
        ]
        over = flight.over and not flight.comparing and not flight.repeating
        if not (flight.calling and over):  # settling such a flight closes it already
            reason = "the process ended while the request was under way"
            events.append(v.RequestRecovered(request=request, charged_nd=charged, reason=reason))
    versions = state.versions
    if versions.job is not None:
        reason = "the process ended while the training was under way"
        events.append(
            v.TrainingFailed(job=versions.job.job, version=versions.job.version, reason=reason, interrupted=True)
        )
    for version in (versions.champion, versions.rival):
        if version is not None:
            effects.append(c.LoadVersion(version=version))
    kept = versions.kept()
    gone = tuple(name for name in versions.known if name not in kept)
    if gone:
        effects.append(c.SweepVersions(versions=gone))
    if versions.candidate is not None:
        effects.append(c.Validate(version=versions.candidate, incumbent=versions.champion))
    return Decision(tuple(events), tuple(effects))
