"""What a task's events amount to: phase, gate, rate, versions, requests in flight, counters, open alerts.

``evolve(state, event, time_ns)`` is the only thing that changes a :class:`TaskState`. It folds in place (a copy per
event would cost more than the event itself), reads nothing but its arguments and draws no conclusions: phase, rate and
gate are whatever the last such event says. Comparing with thresholds is the business of the floor above.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from . import vocabulary as v
from .counters import Counters
from .evidence import Evidence
from .flights import Answer, Flight
from .inputs_state import Inputs
from .teachers_state import TeachersState
from .versions_state import VersionsState, fold_version


class TaskState(msgspec.Struct, kw_only=True):
    """The fold of one task's stream."""

    task: str
    time_ns: int = 0
    """When the last event happened: the time of the rules that look at nothing but the state."""
    phase: v.Phase = "cold_start"
    phase_since_ns: int = 0
    rate: float = 1.0
    rate_target: float = 1.0
    rate_correlation: float | None = None
    """The correlation that the target answers to."""
    rate_moved_at: int = 0
    """Number of folded comparisons when the rate last moved: it moves once per comparison."""
    pace: float = 1.0
    """Factor on the audit rate above its floor that the purse asks for."""
    gate: float | None = None
    gate_moved_at: int = 0
    certified: list[float] = msgspec.field(default_factory=list)
    coaching: str | None = None
    coaching_since: int = 0
    coached_until: int | None = None
    """Number of folded comparisons when coaching last ended in this epoch."""
    coaching_spent_nd: int = 0
    evidence: Evidence = msgspec.field(default_factory=Evidence)
    versions: VersionsState = msgspec.field(default_factory=VersionsState)
    flights: dict[str, Flight] = msgspec.field(default_factory=dict)
    turns: int = 0
    examples: int = 0
    """Rows that may be trained on."""
    holdout: int = 0
    """Rows that are held out."""
    counters: Counters = msgspec.field(default_factory=Counters)
    alerts: dict[str, str] = msgspec.field(default_factory=dict)
    remote_model: str | None = None
    """The model that gave the last remote answer, as the provider names it."""
    teachers: TeachersState = msgspec.field(default_factory=TeachersState)
    inputs: Inputs = msgspec.field(default_factory=Inputs)
    recent_remote: list[v.Digest] = msgspec.field(default_factory=list)
    """The last four remote outputs, newest last: what agreement by chance is measured against."""
    config: str | None = None

    @property
    def collected(self) -> int:
        """Examples collected so far, held-out ones included."""
        return self.examples + self.holdout


type Fold = Callable[[TaskState, Any, int], None]


def _received(state: TaskState, event: v.RequestReceived, time_ns: int) -> None:
    state.counters.requests += 1
    state.flights[event.request] = Flight(
        input=event.input, key=event.key, holdout=event.holdout, tags=event.tags, received_ns=time_ns
    )


def _routed(state: TaskState, event: v.RequestRouted, time_ns: int) -> None:
    flight = state.flights[event.request]
    flight.route, flight.version, flight.turn = event.route, event.version, event.turn
    flight.audit_probability, flight.inline = event.audit_probability, event.inline
    if event.turn:
        state.turns = event.turn
        flight.comparing = event.audit
        if event.route == "remote_with_shadow":
            state.counters.shadow_attempted += 1
            state.counters.shadow_silent += 1
        state.evidence.coin(event.turn, event.audit_probability, event.audit)


def _served(state: TaskState, event: v.ResponseServed, time_ns: int) -> None:
    counters = state.counters
    if event.by == "local":
        counters.served_local += 1
        counters.saved_nd += event.saved_nd
    else:
        counters.served_remote += 1
    if event.degraded is not None:
        counters.degraded += 1
    flight = state.flights[event.request]
    flight.served, flight.over = event.by, True
    _close_if_over(state, event.request, flight)


def _failed(state: TaskState, event: v.RequestFailed, time_ns: int) -> None:
    state.counters.failed += 1
    flight = state.flights[event.request]
    flight.over = True
    _close_if_over(state, event.request, flight)


def _recovered(state: TaskState, event: v.RequestRecovered, time_ns: int) -> None:
    state.counters.recovered += 1
    flight = state.flights.pop(event.request)
    if flight.comparing:
        state.evidence.missed_turn(flight.turn)
        state.counters.audits_missed += 1


def _close_if_over(state: TaskState, request: str, flight: Flight) -> None:
    if flight.over and not flight.calling and not flight.comparing and not flight.repeating:
        del state.flights[request]


def _intended(state: TaskState, event: v.RemoteCallIntended, time_ns: int) -> None:
    state.counters.remote_calls += 1
    name = f"{event.provider}/{event.model}"
    state.flights[event.request].intended(event, name)
    state.teachers.of(name).calls += 1


def _remote_answered(state: TaskState, event: v.RemoteAnswered, time_ns: int) -> None:
    state.counters.remote_answers += 1
    state.counters.remote_cost_nd += event.cost_nd
    state.remote_model = event.model
    state.teachers.answered(event.provider, event.model)
    flight = state.flights[event.request]
    if event.attempt == flight.repeat_attempt:
        return
    state.recent_remote.append(event.output)
    del state.recent_remote[:-4]
    flight.repeating = flight.repeating or (flight.repeat and flight.remote is None)
    flight.remote = event.output


def _remote_failed(state: TaskState, event: v.RemoteFailed, time_ns: int) -> None:
    state.counters.remote_failures += 1
    state.teachers.of(event.provider).failures += 1
    if event.final:
        state.flights[event.request].remote_kind = event.kind


def _reserved(state: TaskState, event: v.BudgetReserved, time_ns: int) -> None:
    state.flights[event.request].calls[event.attempt] = event.amount_nd


def _settled(state: TaskState, event: v.BudgetSettled, time_ns: int) -> None:
    if state.coaching is not None:
        state.coaching_spent_nd += event.amount_nd
    name = state.flights[event.request].asked.get(event.attempt)
    if name is not None:
        state.teachers.of(name).spent_nd += event.amount_nd
    _call_over(state, event.request, event.attempt)


def _released(state: TaskState, event: v.BudgetReleased, time_ns: int) -> None:
    _call_over(state, event.request, event.attempt)


def _call_over(state: TaskState, request: str, attempt: int) -> None:
    flight = state.flights[request]
    flight.calls.pop(attempt, None)
    _close_if_over(state, request, flight)


def _local_answered(state: TaskState, event: v.LocalAnswered, time_ns: int) -> None:
    answer = Answer(version=event.version, output=event.output, p_agree=event.p_agree)
    _local_said(state, event.request, event.challenger, answer)
    if event.novelty is not None and not event.challenger:
        state.inputs.saw(event.novelty)
    if event.shadow and not event.challenger:
        state.counters.shadow_spoke()


def _local_rejected(state: TaskState, event: v.LocalRejected, time_ns: int) -> None:
    answer = Answer(version=event.version, output=None, rejected=True)
    _local_said(state, event.request, event.challenger, answer)
    if not event.challenger:
        state.counters.local_rejected += 1
        if event.shadow:
            state.counters.shadow_spoke()


def _local_failed(state: TaskState, event: v.LocalFailed, time_ns: int) -> None:
    _local_said(state, event.request, event.challenger, Answer(version=event.version, output=None))
    if not event.challenger:
        state.counters.local_failed += 1
        state.counters.shadow_failed += event.shadow


def _local_said(state: TaskState, request: str, rival: bool, answer: Answer) -> None:
    flight = state.flights.get(request)
    if flight is None:  # the answer of a shadow came after the request was closed
        return
    if rival:
        flight.rival = answer
    else:
        flight.local = answer


def _scored(state: TaskState, event: v.RemoteScored, time_ns: int) -> None:
    state.evidence.scored(event)
    if event.challenger_score is not None and event.challenger_version is not None:
        state.versions.compare(event.version, event.score, event.challenger_version, event.challenger_score)
    _comparison_over(state, event.request)


def _missed(state: TaskState, event: v.AuditMissed, time_ns: int) -> None:
    state.counters.audits_missed += 1
    state.evidence.missed_turn(event.turn)
    _comparison_over(state, event.request)


def _comparison_over(state: TaskState, request: str) -> None:
    flight = state.flights.get(request)
    if flight is not None:
        flight.comparing = False
        _close_if_over(state, request, flight)


def _counted(
    state: TaskState, event: v.EvaluatorFailed | v.CorrectionReceived | v.FeedbackReceived, time_ns: int
) -> None:
    state.counters.count(event)


def _repeated(state: TaskState, event: v.SelfAgreementMeasured | v.SelfAgreementMissed, time_ns: int) -> None:
    state.teachers.repeated(event)
    flight = state.flights.get(event.request)
    if flight is not None:
        flight.repeating = False
        _close_if_over(state, event.request, flight)


def _collected(state: TaskState, event: v.ExampleCollected, time_ns: int) -> None:
    if event.holdout:
        state.holdout += 1
    else:
        state.examples += 1
        state.versions.example_came(time_ns)


def _withheld(state: TaskState, event: v.ExampleWithheld, time_ns: int) -> None:
    state.counters.withheld += 1
    state.teachers.of(event.provider).withheld += 1


def _noticed(state: TaskState, event: v.TeacherNoticed, time_ns: int) -> None:
    state.teachers.noticed(event.teacher, event.notice)


def _restarted(state: TaskState, event: v.EvidenceRestarted, time_ns: int) -> None:
    state.evidence.restart(event)
    state.certified = []
    state.teachers.change = None
    state.rate_moved_at = state.gate_moved_at = state.coaching_since = 0
    state.coached_until = None


def _phase(state: TaskState, event: v.PhaseChanged, time_ns: int) -> None:
    state.phase, state.phase_since_ns = event.after, time_ns


def _rate(state: TaskState, event: v.SamplingRateChanged, time_ns: int) -> None:
    state.rate, state.rate_target, state.rate_correlation = event.after, event.target, event.correlation
    state.rate_moved_at = state.evidence.comparisons


def _paced(state: TaskState, event: v.SpendPaced, time_ns: int) -> None:
    state.pace = event.factor


def _gate(state: TaskState, event: v.GateChanged, time_ns: int) -> None:
    state.gate = event.after
    state.gate_moved_at = state.evidence.comparisons


def _certified(state: TaskState, event: v.CertificateIssued, time_ns: int) -> None:
    state.certified.append(event.gate)


def _revoked(state: TaskState, event: v.CertificateRevoked, time_ns: int) -> None:
    state.certified = [] if event.gate is None else [gate for gate in state.certified if gate > event.gate]


def _coaching(state: TaskState, event: v.CoachingStarted, time_ns: int) -> None:
    state.coaching, state.coaching_since = event.reason, state.evidence.comparisons
    state.coaching_spent_nd = 0
    state.rate = state.rate_target = 1.0


def _coached(state: TaskState, event: v.CoachingEnded, time_ns: int) -> None:
    state.coaching, state.coached_until = None, state.evidence.comparisons


def _champion(state: TaskState, event: v.AdapterPromoted | v.AdapterRolledBack, time_ns: int) -> None:
    state.evidence.restart_detectors()
    state.inputs = Inputs()
    _version(state, event, time_ns)


def _drifted(state: TaskState, event: v.DriftDetected, time_ns: int) -> None:
    state.evidence.restart_drift()


def _version(state: TaskState, event: v.Event, time_ns: int) -> None:
    fold_version(state.versions, event, state.collected, time_ns)


def _alert(state: TaskState, event: v.AlertRaised, time_ns: int) -> None:
    state.alerts[event.alert] = event.message


def _alert_over(state: TaskState, event: v.AlertCleared, time_ns: int) -> None:
    state.alerts.pop(event.alert, None)


def _config(state: TaskState, event: v.ConfigApplied, time_ns: int) -> None:
    state.config = event.settings


_FOLDS: dict[type[v.Event], Fold] = {
    v.RequestReceived: _received,
    v.RequestRouted: _routed,
    v.ResponseServed: _served,
    v.RequestFailed: _failed,
    v.RequestRecovered: _recovered,
    v.RemoteCallIntended: _intended,
    v.RemoteAnswered: _remote_answered,
    v.RemoteFailed: _remote_failed,
    v.TeacherNoticed: _noticed,
    v.AuditMissed: _missed,
    v.LocalAnswered: _local_answered,
    v.LocalFailed: _local_failed,
    v.LocalRejected: _local_rejected,
    v.RemoteScored: _scored,
    v.EvaluatorFailed: _counted,
    v.CorrectionReceived: _counted,
    v.FeedbackReceived: _counted,
    v.SelfAgreementMeasured: _repeated,
    v.SelfAgreementMissed: _repeated,
    v.ExampleCollected: _collected,
    v.ExampleWithheld: _withheld,
    v.EvidenceRestarted: _restarted,
    v.PhaseChanged: _phase,
    v.SamplingRateChanged: _rate,
    v.SpendPaced: _paced,
    v.GateChanged: _gate,
    v.CertificateIssued: _certified,
    v.CertificateRevoked: _revoked,
    v.DriftDetected: _drifted,
    v.CoachingStarted: _coaching,
    v.CoachingEnded: _coached,
    v.TrainingTriggered: _version,
    v.TrainingStarted: _version,
    v.TrainingProgressed: _version,
    v.TrainingFailed: _version,
    v.AdapterTrained: _version,
    v.AdapterValidated: _version,
    v.AdapterRejected: _version,
    v.AdapterLoaded: _version,
    v.AdapterPromoted: _champion,
    v.AdapterRolledBack: _champion,
    v.AdapterRetired: _version,
    v.BodyErased: _version,
    v.BudgetReserved: _reserved,
    v.BudgetSettled: _settled,
    v.BudgetReleased: _released,
    v.ConfigApplied: _config,
    v.AlertRaised: _alert,
    v.AlertCleared: _alert_over,
}


def evolve(state: TaskState, event: v.Event, time_ns: int) -> None:
    """Fold one event of the task's stream into ``state``. Events that change nothing here are passed over."""
    state.time_ns = time_ns
    fold = _FOLDS.get(type(event))
    if fold is not None:
        fold(state, event, time_ns)
