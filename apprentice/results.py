"""What callers and operators get back: plain frozen values, JSON-ready."""

from typing import Any

import msgspec


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """An answer. Who gave it is not the caller's business; the operator finds it by ``request_id``."""

    output: dict[str, Any]
    request_id: str


class Promise(msgspec.Struct, frozen=True, kw_only=True):
    """What is promised about locally served answers, and on how much evidence."""

    agreement: float
    alpha: float
    gate: float | None
    """Answers whose ``p_agree`` is at least this are served; None: none are."""
    certified: tuple[float, ...]
    comparisons: int
    """In the present epoch of evidence."""
    epoch: int
    noticed: str
    """Which drop of agreement would be noticed how soon, in words."""
    says: str = ""
    """What is promised, in everyday words."""
    evidence: str = ""
    """On how much evidence."""
    changes: str = ""
    """What would change it."""
    unreachable: str | None = None
    """Why it cannot be kept: the remote model agrees too little with itself. None where that is not known."""


class Money(msgspec.Struct, frozen=True, kw_only=True):
    """Amounts in US dollars as text, exact."""

    spent: str
    saved: str
    would_have_been: str
    """What the remote would have charged for everything: spent on answers plus saved."""
    today: str
    reserved: str
    remote_calls: int
    local_compute: str = "0.00"
    training: str = "0.00"


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """What one calendar window cost and brought. Amounts in US dollars as text, exact."""

    start: str
    """Its first day, ISO 8601, in the calendar of the budget."""
    spent: str
    saved: str
    remote_calls: int
    answers: int
    remote_share: float | None
    """Share of the answers that the remote model gave; None where nothing was answered."""


class Trajectory(msgspec.Struct, frozen=True, kw_only=True):
    """Windows from the oldest to the present one, which may not be over."""

    days: tuple[Window, ...] = ()
    weeks: tuple[Window, ...] = ()
    months: tuple[Window, ...] = ()


class TeacherStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One remote model of a task."""

    name: str
    """``provider/model``."""
    licence: str
    """Whether its answers may be trained on: ``allowed``, ``disallowed``, ``unknown``; ``gone`` if not configured."""
    circuit: str | None
    """``closed`` while it is asked, ``open`` while it is left alone after failures, ``probing`` between the two.
    None where the log alone is read: the circuit is the running process's."""
    calls: int
    answers: int
    failures: int
    spent: str
    withheld: int
    """Answers that were not collected as examples."""
    notice: str
    """What its provider announces about it; empty for nothing."""


class VersionStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One version of the local model."""

    name: str
    status: str
    examples: int
    score: float | None


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """A task at one moment. Reading it changes nothing."""

    task: str
    phase: str
    remote_model: str | None
    champion: str | None
    rival: str | None
    training: str | None
    requests: int
    served_local: int
    served_remote: int
    degraded: int
    failed: int
    in_flight: int
    examples: int
    held_out: int
    sampling_rate: float
    sampling_target: float
    correlation: float | None
    correlation_low: float | None
    correlation_high: float | None
    correlation_is: str
    """Whether it is chance-corrected or plain agreement standing in for it."""
    confidence: float
    """Anytime lower bound on the agreement of locally served answers; 0 while nothing is certified."""
    agreement: float | None
    """Estimated agreement over everything that was compared, in this epoch or before."""
    agreement_local: float | None
    """*Selective* agreement: the same among answers that the local model gave the caller, by those audited."""
    audits_missed: int
    shadow_attempted: int
    shadow_ran: int
    shadow_failed: int
    promise: Promise
    money: Money
    coaching: str | None
    alerts: dict[str, str]
    agreement_local_low: float | None = None
    """Bounds of the selective agreement, 95% between them at one look."""
    agreement_local_high: float | None = None
    agreement_served: float | None = None
    """*Overall* agreement of everything that was served; remote answers count as agreeing."""
    agreement_served_low: float | None = None
    agreement_served_high: float | None = None
    self_agreement: float | None = None
    """How often the remote model gave an equivalent answer when asked again; None before enough was asked twice."""
    self_agreement_low: float | None = None
    """Bounds of it, 99% between them at one look."""
    self_agreement_high: float | None = None
    asked_twice: int = 0
    """Repeated questions that it is known from."""
    unusual_inputs: float | None = None
    """Share of recent inputs unlike those trained on, 0.05 being usual; None where the local model does not say."""
    withheld: int = 0
    """Remote answers that may not be trained on."""
    teachers: tuple[TeacherStatus, ...] = ()
    trajectory: Trajectory = Trajectory()
    versions: tuple[VersionStatus, ...]

    @property
    def local_share(self) -> float:
        """Share of served answers that the local model gave."""
        served = self.served_local + self.served_remote
        return self.served_local / served if served else 0.0


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """All tasks, and the money of all together."""

    at: str
    tasks: tuple[Status, ...]
    money: Money
    trajectory: Trajectory = Trajectory()
    """Of all tasks together."""
    caps: dict[str, str]
    """Each cap's use in words, such as ``$1.20 of $10.00, reopens 2026-01-02T00:00:00+00:00``."""


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One event of a request's story, in words."""

    at: str
    position: int
    event: str
    says: str


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """Why a request went where it went."""

    request_id: str
    task: str
    summary: str
    steps: tuple[Step, ...]
    input: dict[str, Any] | None
    """None where it was erased."""
    output: dict[str, Any] | None
    promise: str = ""
    """What was promised about its answer at that time, in everyday words."""
