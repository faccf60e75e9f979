"""After which events the standing rules need not be asked, because they still have nothing to say. Pure.

Most of what a request leaves behind moves nothing that a rule looks at, or moves it towards a limit that is told in
advance. What is not known to be quiet is not: an event of a kind that is not named here has the rules asked.
"""

from collections.abc import Callable, Iterable

import msgspec

from apprentice_events import vocabulary as v
from apprentice_events.task_state import TaskState

from . import commands as c
from .alerts import watch_inputs, watch_shadow
from .decision import Decision
from .policy.triggers import due
from .review import RULES, burst_due, keep_evidence_current
from .settings import TaskSettings

UNREVIEWED = (c.Submit, c.Reserved, c.ReservationRefused)
"""Commands after which the rules are not asked: what they changed is looked at after the next one."""


class Silence(msgspec.Struct, frozen=True):
    """The rules were asked and had nothing to say: what stood then that later events are held against."""

    missed: int
    """Audits that did not come about: routing one more request may give up the oldest that is open."""
    burst_due: float
    """The number of requests up to which no burst begins."""


def silence(state: TaskState, settings: TaskSettings) -> Silence:
    """What stands now that no rule has anything to say."""
    return Silence(missed=state.evidence.missed, burst_due=burst_due(state, settings))


def ask_rules(state: TaskState, settings: TaskSettings, take: Callable[[Decision], None]) -> Silence | None:
    """Ask every rule, with ``take`` to fold what it calls for. None if one spoke: another may have to speak then."""
    spoken = False
    for rule in RULES:
        decision = rule(state, settings)
        spoken = spoken or decision.speaks
        take(decision)
    return None if spoken else silence(state, settings)


def quiet(state: TaskState, settings: TaskSettings, since: Silence, events: Iterable[v.Event]) -> bool:
    """Whether no rule has anything to say after ``events``, which ``state`` has folded, given that none had before.

    Time passes with every event, so whether a training is due is looked at whatever they are.
    """
    for event in events:
        stirs = _STIRS.get(type(event))
        if stirs is None or stirs(state, settings, since):
            return False
    return due(state, settings, state.time_ns) is None


type Stirs = Callable[[TaskState, TaskSettings, Silence], bool]


def _nothing(state: TaskState, settings: TaskSettings, since: Silence) -> bool:
    return False


def _received(state: TaskState, settings: TaskSettings, since: Silence) -> bool:
    return state.counters.requests > since.burst_due


def _routed(state: TaskState, settings: TaskSettings, since: Silence) -> bool:
    return state.evidence.missed != since.missed or watch_shadow(state, settings).speaks


def _local_spoke(state: TaskState, settings: TaskSettings, since: Silence) -> bool:
    return watch_shadow(state, settings).speaks or watch_inputs(state, settings).speaks


def _remote_spoke(state: TaskState, settings: TaskSettings, since: Silence) -> bool:
    return keep_evidence_current(state, settings).speaks


def _settled(state: TaskState, settings: TaskSettings, since: Silence) -> bool:
    return state.coaching is not None and settings.coaching_budget_nd is not None


_STIRS: dict[type[v.Event], Stirs] = {
    v.RequestReceived: _received,
    v.RequestRouted: _routed,
    v.LocalAnswered: _local_spoke,
    v.LocalRejected: _local_spoke,
    v.LocalFailed: _nothing,
    v.ResponseServed: _nothing,
    v.RequestFailed: _nothing,
    v.BudgetReserved: _nothing,
    v.BudgetReleased: _nothing,
    v.BudgetSettled: _settled,
    v.RemoteCallIntended: _nothing,
    v.RemoteAnswered: _remote_spoke,
    v.RemoteFailed: _nothing,
    v.ExampleCollected: _nothing,
    v.ExampleWithheld: _nothing,
    v.TrainingProgressed: _nothing,
}
"""Events that there are many of, with what tells whether they moved something that a rule looks at."""
