"""A task's stream as requests: what is known of each, and when it became known.

The log has both models' answers only where they were compared. Of an answer that was served locally and not audited it
has the local model's own probability of agreeing, and nothing of what the remote would have said.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from apprentice_actors.settings import TaskSettings
from apprentice_events import vocabulary as v
from apprentice_events.log import Record


class Place(NamedTuple):
    """When something stands in the log."""

    position: int
    time_ns: int


NOWHERE = Place(0, 0)


class Asked(msgspec.Struct, kw_only=True):
    """One request as the log has it. ``*_at`` are None where the thing did not happen."""

    id: str
    input: v.Digest
    key: str | None
    tags: tuple[str, ...]
    holdout: bool
    opened_at: Place = NOWHERE
    route: v.Route = "remote"
    phase: v.Phase = "cold_start"
    rate: float = 1.0
    audited: bool = False
    local_at: Place | None = None
    local_output: v.Digest | None = None
    p_agree: float | None = None
    local_failure: str | None = None
    local_rejected: bool = False
    version: str | None = None
    local_nd: int = 0
    calls: int = 0
    spent_nd: int = 0
    remote_at: Place | None = None
    remote_output: v.Digest | None = None
    """None with ``remote_at``: it gave no usable answer, and ``remote_kind`` says why."""
    remote_kind: str = ""
    teacher: str = ""
    model: str = ""
    teachable: bool = True
    refused: str | None = None
    """Why there was no call at all, where one was wanted."""
    refused_at: Place | None = None
    error: str | None = None
    served: v.Server | None = None
    saved_nd: int = 0
    scored_at: Place | None = None
    score: float | None = None
    chance: float = 0.0
    bought_with: float = 1.0
    """The probability with which the comparison was bound to happen."""
    evaluator_failed: bool = False
    recovered_at: Place | None = None

    @property
    def compared(self) -> bool:
        """Whether the log knows how far both answers agree."""
        return self.score is not None and self.p_agree is not None

    @property
    def coin(self) -> tuple[float, float]:
        """Between what its coin must have fallen: only an answer above the gate had one that mattered."""
        tossed = self.route == "local_first" and self.phase == "steady_state" and self.rate < 1.0
        if not tossed or self.served is None:
            return 0.0, 1.0
        if self.audited and (self.bought_with < 1.0 or self.served == "local"):
            return 0.0, self.rate
        by_gate = self.served == "local" and self.refused is None
        return (self.rate, 1.0) if by_gate and not self.audited else (0.0, 1.0)


class Other(msgspec.Struct, frozen=True, kw_only=True):
    """An event that no request made: a version, a new configuration, an operator's word."""

    at: Place
    event: v.Event


class Happened(msgspec.Struct, kw_only=True):
    """Totals of what happened."""

    requests: int = 0
    calls: int = 0
    spent_nd: int = 0
    training_nd: int = 0
    served_local: int = 0
    served_remote: int = 0
    failed: int = 0
    graduated_after: int | None = None
    """Requests until the local model first served; None: it never did."""
    graduated_ns: int | None = None


class Recorded:
    """The fold of one task's stream. A fold for :func:`apprentice_events.replay.rebuild`."""

    def __init__(self, task: str) -> None:
        self.task = task
        self.asked: list[Asked] = []
        """In the order in which they were routed."""
        self.others: list[Other] = []
        self.happened = Happened()
        self.settings: TaskSettings | None = None
        """Those in force at the end."""
        self._by_id: dict[str, Asked] = {}

    def apply(self, record: Record, event: v.Event) -> None:
        """Take in the next record; those of other streams are passed over."""
        if record.stream != f"task/{self.task}":
            return
        fold = _FOLDS.get(type(event))
        if fold is not None:
            asked = self._by_id.get(getattr(event, "request", ""))
            if asked is not None:
                fold(self, asked, event, record)
        elif isinstance(event, v.RequestReceived):
            self._received(record, event)
        elif isinstance(event, _OTHERS):
            self.others.append(Other(at=_place(record), event=event))
            if isinstance(event, v.ConfigApplied):
                self.settings = msgspec.json.decode(event.settings, type=TaskSettings)
            elif isinstance(event, v.AdapterTrained):
                self.happened.spent_nd += event.cost_nd
                self.happened.training_nd += event.cost_nd
        elif isinstance(event, v.PhaseChanged) and event.after == "steady_state":
            self._graduated(record)

    def _received(self, record: Record, event: v.RequestReceived) -> None:
        self.happened.requests += 1
        self._by_id[event.request] = Asked(
            id=event.request,
            input=event.input,
            key=event.key,
            tags=event.tags,
            holdout=event.holdout,
        )

    def _graduated(self, record: Record) -> None:
        if self.happened.graduated_after is None and self.asked:
            self.happened.graduated_after = self.happened.requests
            self.happened.graduated_ns = record.time_ns - self.asked[0].opened_at.time_ns


_OTHERS = (
    v.ConfigApplied,
    v.OperatorActed,
    v.TeacherNoticed,
    v.SpendPaced,
    v.TrainingTriggered,
    v.TrainingFailed,
    v.AdapterTrained,
    v.AdapterValidated,
    v.AdapterRejected,
    v.AdapterLoaded,
    v.AdapterPromoted,
    v.AdapterRolledBack,
    v.AdapterRetired,
)


def _place(record: Record) -> Place:
    return Place(record.position, record.time_ns)


def _routed(found: Recorded, asked: Asked, event: v.RequestRouted, record: Record) -> None:
    asked.opened_at = _place(record)
    asked.route, asked.phase, asked.rate, asked.audited = event.route, event.phase, event.audit_probability, event.audit
    found.asked.append(asked)


def _local(found: Recorded, asked: Asked, event: v.Event, record: Record) -> None:
    if isinstance(event, v.LocalAnswered):
        found.happened.spent_nd += event.cost_nd
    if getattr(event, "challenger", False):
        return
    asked.local_at = _place(record)
    if isinstance(event, v.LocalAnswered):
        asked.local_output, asked.p_agree, asked.version = event.output, event.p_agree, event.version
        asked.local_nd = event.cost_nd
    elif isinstance(event, v.LocalFailed | v.LocalRejected):
        asked.local_failure, asked.version = event.reason, event.version
        asked.local_rejected = isinstance(event, v.LocalRejected)


def _intended(found: Recorded, asked: Asked, event: v.RemoteCallIntended, record: Record) -> None:
    asked.calls += 1
    asked.refused = None
    found.happened.calls += 1
    asked.teacher = asked.teacher or f"{event.provider}/{event.model}"


def _answered(found: Recorded, asked: Asked, event: v.RemoteAnswered, record: Record) -> None:
    if asked.remote_output is None:  # not the second answer to a question asked twice, nor the slower hedged one
        asked.remote_at, asked.remote_output = _place(record), event.output
        asked.teacher, asked.model = event.provider, event.model


def _remote_failed(found: Recorded, asked: Asked, event: v.RemoteFailed, record: Record) -> None:
    if event.final and asked.remote_output is None:
        asked.remote_at, asked.remote_kind = _place(record), event.kind


def _settled(found: Recorded, asked: Asked, event: v.BudgetSettled, record: Record) -> None:
    asked.spent_nd += event.amount_nd
    found.happened.spent_nd += event.amount_nd


def _withheld(found: Recorded, asked: Asked, event: v.ExampleWithheld, record: Record) -> None:
    asked.teachable = False


def _served(found: Recorded, asked: Asked, event: v.ResponseServed, record: Record) -> None:
    asked.served, asked.saved_nd = event.by, event.saved_nd
    if event.by == "local":
        found.happened.served_local += 1
        if event.degraded is not None and not asked.calls:
            asked.refused, asked.refused_at = event.degraded, _place(record)
    else:
        found.happened.served_remote += 1


def _failed(found: Recorded, asked: Asked, event: v.RequestFailed, record: Record) -> None:
    asked.error = event.error
    found.happened.failed += 1
    if not asked.calls:
        asked.refused, asked.refused_at = event.reason, _place(record)


def _missed(found: Recorded, asked: Asked, event: v.AuditMissed, record: Record) -> None:
    asked.scored_at = _place(record)
    if not asked.calls:
        asked.refused, asked.refused_at = event.reason, _place(record)


def _scored(found: Recorded, asked: Asked, event: v.RemoteScored, record: Record) -> None:
    asked.scored_at, asked.score, asked.chance = _place(record), event.score, event.chance
    asked.bought_with = event.audit_probability


def _evaluator(found: Recorded, asked: Asked, event: v.EvaluatorFailed, record: Record) -> None:
    asked.evaluator_failed = True


def _recovered(found: Recorded, asked: Asked, event: v.RequestRecovered, record: Record) -> None:
    asked.recovered_at = _place(record)


_FOLDS: dict[type[v.Event], Callable[[Recorded, Asked, Any, Record], None]] = {
    v.RequestRouted: _routed,
    v.LocalAnswered: _local,
    v.LocalFailed: _local,
    v.LocalRejected: _local,
    v.RemoteCallIntended: _intended,
    v.RemoteAnswered: _answered,
    v.RemoteFailed: _remote_failed,
    v.BudgetSettled: _settled,
    v.ExampleWithheld: _withheld,
    v.ResponseServed: _served,
    v.RequestFailed: _failed,
    v.AuditMissed: _missed,
    v.RemoteScored: _scored,
    v.EvaluatorFailed: _evaluator,
    v.RequestRecovered: _recovered,
}
