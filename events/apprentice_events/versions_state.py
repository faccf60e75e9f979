"""The fold of a task's training and version events: what was trained, what serves, what is being compared."""

import math
from typing import Literal

import msgspec

from . import vocabulary as v

type Status = Literal[
    "training", "trained", "validated", "rival", "champion", "standby", "rolled_back", "rejected", "retired"
]


class Version(msgspec.Struct, kw_only=True):
    """One immutable version of the local model."""

    name: str
    parent: str | None
    status: Status = "training"
    manifest: str = ""
    examples: int = 0
    """How many examples the task had collected when this version was triggered."""
    score: float | None = None
    """Mean score on the held-out rows at validation."""


class Job(msgspec.Struct, kw_only=True):
    """The training job under way."""

    job: str
    version: str
    cause: str
    examples: int
    fraction: float = 0.0
    before_ns: int | None = None
    """When the training before it was triggered."""


class Paired(msgspec.Struct, kw_only=True):
    """Champion and rival on the same live requests: two one-sided betting processes on the score difference.

    With d = champion - rival in [-1, 1], ``ahead`` grows when the rival is better (factor 1 - d/4) and ``behind`` when
    it is worse (factor 1 + d/4); under equal mean scores each is a test martingale, so by Ville's inequality it reaches
    1/a with probability at most a, however often one looks.
    """

    champion: str
    rival: str
    rows: int = 0
    difference: float = 0.0
    """Sum of champion minus rival."""
    squares: float = 0.0
    """Sum of the squared differences: its root is the standard error of ``difference`` if both are equally good."""
    log_ahead: float = 0.0
    log_behind: float = 0.0


class VersionsState(msgspec.Struct, kw_only=True):
    """Everything about the versions of one task."""

    known: dict[str, Version] = msgspec.field(default_factory=dict)
    made: int = 0
    """Highest number given to a version; numbers are never used twice."""
    champion: str | None = None
    rival: str | None = None
    rival_role: Literal["challenger", "predecessor"] = "challenger"
    candidate: str | None = None
    """Trained and being validated, or validated and being loaded."""
    history: list[str] = msgspec.field(default_factory=list)
    """Champions in the order of their promotion, the present one last."""
    job: Job | None = None
    trained_examples: int = 0
    """Examples collected when the newest version was triggered; a failed job uses none."""
    triggered_ns: int | None = None
    """When the last training was triggered; one that was interrupted does not count."""
    fresh_since_ns: int | None = None
    """When the first example came that may be trained on and that no version has learned from."""
    later_since_ns: int | None = None
    """The same, counted from the last trigger: what the job under way does not see."""
    failures_in_a_row: int = 0
    failed_at: int = 0
    """Examples at the last failure: the next attempt waits for a batch more."""
    paired: Paired | None = None
    saw_erased: list[str] = msgspec.field(default_factory=list)
    """Versions that learned from content which was erased later, in the order in which that became known."""

    def compare(self, champion: str, score: float, rival: str, rival_score: float) -> None:
        """Fold one live pair of scores; pairs of versions that no longer face each other are passed over."""
        paired = self.paired
        if paired is None or paired.champion != champion or paired.rival != rival:
            return
        d = score - rival_score
        paired.rows += 1
        paired.difference += d
        paired.squares += d * d
        paired.log_ahead += math.log(1.0 - d / 4)
        paired.log_behind += math.log(1.0 + d / 4)

    def example_came(self, time_ns: int) -> None:
        """Fold the time of an example that may be trained on."""
        if self.fresh_since_ns is None:
            self.fresh_since_ns = time_ns
        if self.later_since_ns is None:
            self.later_since_ns = time_ns

    def kept(self) -> list[str]:
        """Versions whose files are on disk, oldest first."""
        return [name for name, one in self.known.items() if one.status not in ("training", "retired", "rejected")]


def fold_version(state: VersionsState, event: v.Event, examples: int, time_ns: int) -> None:
    """Fold one event; ``examples`` is the task's count of collected examples."""
    match event:
        case v.TrainingTriggered():
            _trigger(state, event, time_ns)
        case v.TrainingProgressed():
            if state.job is not None:
                state.job.fraction = event.fraction
        case v.TrainingFailed():
            _fail(state, event, examples)
        case v.AdapterTrained():
            trained = state.known[event.version]
            trained.status, trained.manifest = "trained", event.manifest
            state.trained_examples = trained.examples
            state.fresh_since_ns = state.later_since_ns
            state.job, state.candidate, state.failures_in_a_row = None, event.version, 0
        case v.AdapterValidated():
            state.known[event.version].status = "validated"
            state.known[event.version].score = event.score
        case v.AdapterRejected():
            _reject(state, event)
        case v.AdapterLoaded():
            if event.role == "challenger":
                _enter(state, event.version, "challenger")
                state.candidate = None
        case v.AdapterPromoted():
            _promote(state, event.version, event.before)
        case v.AdapterRolledBack():
            _roll_back(state, event)
        case v.BodyErased():
            state.saw_erased += [name for name in event.versions if name not in state.saw_erased]
        case v.AdapterRetired():
            state.known[event.version].status = "retired"
            if state.rival == event.version:
                state.rival = state.paired = None


def _trigger(state: VersionsState, event: v.TrainingTriggered, time_ns: int) -> None:
    state.made += 1
    state.job = Job(
        job=event.job,
        version=event.version,
        cause=event.cause,
        examples=event.examples,
        before_ns=state.triggered_ns,
    )
    state.triggered_ns, state.later_since_ns = time_ns, None
    state.known[event.version] = Version(name=event.version, parent=event.parent, examples=event.examples)


def _fail(state: VersionsState, event: v.TrainingFailed, examples: int) -> None:
    if not event.interrupted:
        state.failures_in_a_row += 1
        state.failed_at = examples
    elif state.job is not None:
        state.triggered_ns = state.job.before_ns
    state.job = None
    state.known[event.version].status = "rejected"


def _reject(state: VersionsState, event: v.AdapterRejected) -> None:
    state.known[event.version].status = "rejected"
    state.known[event.version].score = event.score
    if state.candidate == event.version:
        state.candidate = None
    if state.rival == event.version:
        state.rival = state.paired = None


def _enter(state: VersionsState, rival: str, role: Literal["challenger", "predecessor"]) -> None:
    _leave(state)
    state.rival, state.rival_role = rival, role
    state.known[rival].status = "rival"
    state.paired = Paired(champion=state.champion, rival=rival) if state.champion is not None else None


def _leave(state: VersionsState) -> None:
    """Nobody is compared with the champion any more."""
    if state.rival is not None and state.known[state.rival].status == "rival":
        state.known[state.rival].status = "standby"
    state.rival = state.paired = None


def _promote(state: VersionsState, version: str, before: str | None) -> None:
    state.champion = version
    state.known[version].status = "champion"
    state.history.append(version)
    if state.candidate == version:
        state.candidate = None
    _leave(state)
    if before is not None:
        state.known[before].status = "standby"
        _enter(state, before, "predecessor")


def _roll_back(state: VersionsState, event: v.AdapterRolledBack) -> None:
    state.known[event.version].status = "rolled_back"
    state.champion = event.to
    state.known[event.to].status = "champion"
    state.history.append(event.to)
    _leave(state)
