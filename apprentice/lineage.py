"""What the log tells of each version: from the trigger over data, training and verdict to the end of its service.

Built from records alone, so that a version can be looked at long after its files are gone.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from apprentice.reading import moment
from apprentice.wiring import dollars
from apprentice_events import vocabulary as v
from apprentice_events.log import Record
from apprentice_events.task_state import TaskState

TAGS = tuple(
    event.TAG
    for event in (
        v.TrainingTriggered,
        v.TrainingStarted,
        v.TrainingFailed,
        v.AdapterTrained,
        v.AdapterValidated,
        v.AdapterRejected,
        v.AdapterLoaded,
        v.AdapterPromoted,
        v.AdapterRolledBack,
        v.AdapterRetired,
    )
)
"""The events that a lineage is made of."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """How the version did on the held-out rows against the incumbent, or the untrained base."""

    accepted: bool
    at: str
    score: float | None
    """None where the version could not be asked."""
    incumbent: str | None
    incumbent_score: float | None
    rows: int
    reason: str
    slices: tuple[v.SliceScore, ...] = ()


class Happening(msgspec.Struct, frozen=True, kw_only=True):
    """One turn in the life of a version, in words."""

    at: str
    what: str
    reason: str = ""


class Lineage(msgspec.Struct, kw_only=True):
    """One version, as the log has it. Amounts in US dollars as text, exact; times in ISO 8601."""

    version: str
    task: str
    status: str = "training"
    parent: str | None
    cause: str
    triggered: str
    examples: int
    """Examples collected when it was triggered."""
    rows_train: int | None = None
    rows_holdout: int | None = None
    dataset: str | None = None
    """sha256 of the dataset."""
    statistics: v.DatasetStatistics | None = None
    seconds: float | None = None
    cost: str | None = None
    manifest: str | None = None
    metrics: dict[str, float] = {}
    failure: str | None = None
    """Why there is no version."""
    verdict: Verdict | None = None
    live: str | None = None
    """How far the comparison on live requests is, in words, while there is one."""
    history: list[Happening] = []


def lineages(state: TaskState, records: Iterable[Record]) -> list[Lineage]:
    """All versions of a task, oldest first. ``records`` are those of the task's stream with one of :data:`TAGS`."""
    told: dict[str, Lineage] = {}
    jobs: dict[str, str] = {}
    for record in records:
        event, at = record.event(), moment(record.time_ns)
        if isinstance(event, v.TrainingTriggered):
            jobs[event.job] = event.version
            told[event.version] = _begun(state, event, at)
            continue
        version = getattr(event, "version", None) or jobs.get(getattr(event, "job", ""), "")
        tell = _TELL.get(type(event))
        if tell is not None and version in told:
            tell(told, told[version], event, at)
    return list(told.values())


def _begun(state: TaskState, event: v.TrainingTriggered, at: str) -> Lineage:
    known = state.versions.known.get(event.version)
    paired = state.versions.paired
    live = None
    if paired is not None and paired.rival == event.version:
        live = f"{-paired.difference:+.1f} agreements against {paired.champion} over {paired.rows} live requests"
    return Lineage(
        version=event.version,
        task=state.task,
        status=known.status if known is not None else "training",
        parent=event.parent,
        cause=event.cause,
        triggered=at,
        examples=event.examples,
        live=live,
        history=[Happening(at=at, what="triggered", reason=event.cause)],
    )


type _Told = dict[str, Lineage]


def _started(told: _Told, one: Lineage, event: v.TrainingStarted, at: str) -> None:
    one.rows_train, one.rows_holdout, one.dataset = event.rows_train, event.rows_holdout, event.dataset
    one.statistics = event.statistics


def _failed(told: _Told, one: Lineage, event: v.TrainingFailed, at: str) -> None:
    one.failure = event.reason
    one.history.append(Happening(at=at, what="interrupted" if event.interrupted else "failed", reason=event.reason))


def _trained(told: _Told, one: Lineage, event: v.AdapterTrained, at: str) -> None:
    one.seconds, one.manifest, one.metrics = event.seconds, event.manifest, dict(event.metrics)
    one.cost = dollars(event.cost_nd)
    one.history.append(Happening(at=at, what="trained", reason=f"in {event.seconds:.1f} s"))


def _validated(told: _Told, one: Lineage, event: v.AdapterValidated, at: str) -> None:
    one.verdict = _verdict(event, at, accepted=True)
    one.history.append(Happening(at=at, what="validated", reason=event.reason))


def _rejected(told: _Told, one: Lineage, event: v.AdapterRejected, at: str) -> None:
    """On held-out rows, or as a challenger on live requests: then the verdict on the held-out rows stands."""
    if one.verdict is None:
        one.verdict = _verdict(event, at, accepted=False)
    one.history.append(Happening(at=at, what="rejected", reason=event.reason))


def _verdict(event: v.AdapterValidated | v.AdapterRejected, at: str, *, accepted: bool) -> Verdict:
    return Verdict(
        accepted=accepted,
        at=at,
        score=event.score,
        incumbent=event.incumbent,
        incumbent_score=event.incumbent_score,
        rows=event.rows,
        reason=event.reason,
        slices=event.slices,
    )


def _loaded(told: _Told, one: Lineage, event: v.AdapterLoaded, at: str) -> None:
    if event.role == "challenger":
        one.history.append(Happening(at=at, what="challenger"))


def _promoted(told: _Told, one: Lineage, event: v.AdapterPromoted, at: str) -> None:
    one.history.append(Happening(at=at, what="champion", reason=event.reason))
    before = told.get(event.before or "")
    if before is not None:
        before.history.append(Happening(at=at, what=f"succeeded by {event.version}"))


def _rolled_back(told: _Told, one: Lineage, event: v.AdapterRolledBack, at: str) -> None:
    one.history.append(Happening(at=at, what=f"rolled back to {event.to}", reason=event.reason))
    back = told.get(event.to)
    if back is not None:
        back.history.append(Happening(at=at, what="champion again", reason=event.reason))


def _retired(told: _Told, one: Lineage, event: v.AdapterRetired, at: str) -> None:
    one.history.append(Happening(at=at, what="retired", reason=event.reason))


_TELL: Mapping[type[v.Event], Callable[[_Told, Lineage, Any, str], None]] = {
    v.TrainingStarted: _started,
    v.TrainingFailed: _failed,
    v.AdapterTrained: _trained,
    v.AdapterValidated: _validated,
    v.AdapterRejected: _rejected,
    v.AdapterLoaded: _loaded,
    v.AdapterPromoted: _promoted,
    v.AdapterRolledBack: _rolled_back,
    v.AdapterRetired: _retired,
}
