"""Status, report and explanation, read from folded states and records. Nothing here writes, waits or decides."""

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from apprentice.promising import JUDGEMENTS, bounded, promise, promised_then
from apprentice.results import Explanation, Money, Report, Status, Step, TeacherStatus, VersionStatus
from apprentice.telling import tell
from apprentice.trajectory import trajectory
from apprentice.wiring import dollars
from apprentice_actors.policy.budget import applying
from apprentice_actors.policy.certificate import agreement_floor
from apprentice_actors.repeats import self_agreement
from apprentice_actors.review import present_correlation
from apprentice_actors.settings import PurseSettings, TaskSettings
from apprentice_events import vocabulary as v
from apprentice_events.counters import Counters
from apprentice_events.log import EventLog, Record
from apprentice_events.spend import SpendState, window_reopens, window_start
from apprentice_events.task_state import TaskState
from apprentice_events.teachers_state import TeacherState

JUDGED = tuple(event.TAG for event in JUDGEMENTS)
"""Tags of the events that say what was promised when."""


def status(
    state: TaskState, settings: TaskSettings, spend: SpendState, now_ns: int, circuits: Mapping[str, str] | None = None
) -> Status:
    """One task at one moment; ``circuits`` is by teacher, where there is a process that has some."""
    counters, versions, evidence = state.counters, state.versions, state.evidence
    found, twice = present_correlation(state, settings), self_agreement(state, settings)
    local, local_low, local_high = bounded(evidence.served_local)
    return Status(
        task=state.task,
        phase=state.phase,
        remote_model=state.remote_model,
        champion=versions.champion,
        rival=versions.rival,
        training=f"{versions.job.version} {versions.job.fraction:.0%}" if versions.job is not None else None,
        requests=counters.requests,
        served_local=counters.served_local,
        served_remote=counters.served_remote,
        degraded=counters.degraded,
        failed=counters.failed + counters.recovered,
        in_flight=len(state.flights),
        examples=state.examples,
        held_out=state.holdout,
        sampling_rate=state.rate if state.phase == "steady_state" else 1.0,
        sampling_target=state.rate_target if state.phase == "steady_state" else 1.0,
        correlation=found.value if found is not None else None,
        correlation_low=found.lower if found is not None else None,
        correlation_high=found.upper if found is not None else None,
        correlation_is=_kind(found.corrected if found is not None else None),
        confidence=agreement_floor(evidence, state.gate),
        agreement=bounded(evidence.everything)[0],
        agreement_local=local,
        agreement_local_low=local_low,
        agreement_local_high=local_high,
        agreement_served=_overall(local, counters),
        agreement_served_low=_overall(local_low, counters) if local is not None else None,
        agreement_served_high=_overall(local_high, counters) if local is not None else None,
        self_agreement=twice.value if twice is not None else None,
        self_agreement_low=twice.lower if twice is not None else None,
        self_agreement_high=twice.upper if twice is not None else None,
        asked_twice=twice.count if twice is not None else 0,
        unusual_inputs=state.inputs.unusual if state.inputs.count else None,
        audits_missed=counters.audits_missed,
        withheld=counters.withheld,
        teachers=tuple(_teachers(state, settings, circuits or {})),
        trajectory=trajectory(spend, now_ns, state.task),
        shadow_attempted=counters.shadow_attempted,
        shadow_ran=counters.shadow_ran,
        shadow_failed=counters.shadow_failed,
        promise=promise(state, settings),
        money=task_money(state, spend, now_ns),
        coaching=state.coaching,
        alerts=dict(state.alerts),
        versions=tuple(
            VersionStatus(name=one.name, status=one.status, examples=one.examples, score=one.score)
            for one in versions.known.values()
        ),
    )


def _kind(corrected: bool | None) -> str:
    if corrected is None:
        return "not known before the window is half full"
    return "agreement corrected for chance" if corrected else "plain agreement, standing in for correlation"


def _teachers(state: TaskState, settings: TaskSettings, circuits: Mapping[str, str]) -> Iterable[TeacherStatus]:
    """The configured ones in their order, then those that only the log remembers."""
    licences = dict(settings.licences)
    for name in (*licences, *(name for name in state.teachers.known if name not in licences)):
        known = state.teachers.known.get(name, TeacherState())
        yield TeacherStatus(
            name=name,
            licence=licences.get(name, "gone"),
            circuit=circuits.get(name),
            calls=known.calls,
            answers=known.answers,
            failures=known.failures,
            spent=dollars(known.spent_nd),
            withheld=known.withheld,
            notice=known.notice,
        )


def _overall(local: float | None, counters: Counters) -> float | None:
    """Agreement over everything that was served: remote answers agree with themselves. None before any answer."""
    served = counters.served_local + counters.served_remote
    if not served or (local is None and counters.served_local):
        return None
    return 1.0 - counters.served_local / served * (1.0 - (local or 0.0))


# ---------------------------------------------------------------- money


def task_money(state: TaskState, spend: SpendState, now_ns: int) -> Money:
    """The money of one task."""
    totals, day = spend.of(state.task), spend.day_of(now_ns)
    return Money(
        spent=dollars(totals.spent_nd),
        saved=dollars(totals.saved_nd),
        would_have_been=dollars(totals.spent_nd - totals.training_nd - totals.local_nd + totals.saved_nd),
        today=dollars(totals.days.get(day, 0)),
        reserved=dollars(spend.reserved_since(0, state.task)),
        remote_calls=totals.calls,
        local_compute=dollars(totals.local_nd),
        training=dollars(totals.training_nd),
    )


def all_money(spend: SpendState, now_ns: int) -> Money:
    """The money of all tasks together."""
    day, tasks = spend.day_of(now_ns), spend.tasks.values()
    spent, saved = sum(one.spent_nd for one in tasks), sum(one.saved_nd for one in tasks)
    local_nd, training_nd = sum(one.local_nd for one in tasks), sum(one.training_nd for one in tasks)
    return Money(
        spent=dollars(spent),
        saved=dollars(saved),
        would_have_been=dollars(spent + saved - local_nd - training_nd),
        today=dollars(spend.spent_since(day)),
        reserved=dollars(spend.reserved_since(0)),
        remote_calls=sum(one.calls for one in tasks),
        local_compute=dollars(local_nd),
        training=dollars(training_nd),
    )


def caps_in_words(spend: SpendState, settings: PurseSettings, now_ns: int) -> dict[str, str]:
    """How far each cap is used and when its window reopens."""
    day, found = spend.day_of(now_ns), {}
    for cap in settings.caps:
        spent = spend.spent_since(window_start(day, cap.window), cap.task)
        reopens = window_reopens(day, cap.window, settings.zone).isoformat()
        found[cap.name] = f"${dollars(spent)} of ${dollars(cap.limit_nd)}, reopens {reopens}"
    return found


def report(
    states: Sequence[tuple[TaskState, TaskSettings]],
    spend: SpendState,
    purse: PurseSettings,
    now_ns: int,
    circuits: Mapping[str, str] | None = None,
) -> Report:
    """Everything."""
    return Report(
        at=moment(now_ns),
        tasks=tuple(status(state, settings, spend, now_ns, circuits) for state, settings in states),
        money=all_money(spend, now_ns),
        trajectory=trajectory(spend, now_ns),
        caps=caps_in_words(spend, purse, now_ns),
    )


def caps_of(purse: PurseSettings, task: str) -> list[str]:
    """Names of the caps that apply to a task."""
    return [cap.name for cap in applying(purse.caps, task)]


def moment(time_ns: int) -> str:
    """ISO 8601 UTC with milliseconds."""
    return dt.datetime.fromtimestamp(time_ns / 1e9, tz=dt.UTC).isoformat(timespec="milliseconds")


# ---------------------------------------------------------------- a request's story


async def explain(log: EventLog, request: str) -> Explanation | None:
    """Why a request went where it went; None if the log has no such request."""
    records = await log.by_correlation(request)
    if not records:
        return None
    events = [record.event() for record in records]
    received = next((event for event in events if isinstance(event, v.RequestReceived)), None)
    served = next((event for event in events if isinstance(event, v.ResponseServed)), None)
    past = log.read(stream=records[0].stream, tags=JUDGED)
    before = [record.event() async for record in past if record.position < records[0].position]
    return Explanation(
        request_id=request,
        task=records[0].stream.removeprefix("task/"),
        summary=summary(events),
        promise=promised_then(events, before),
        steps=tuple(steps(zip(records, events, strict=True))),
        input=await _body(log, received.input) if received is not None else None,
        output=await _body(log, served.output) if served is not None else None,
    )


async def _body(log: EventLog, digest: str) -> dict[str, Any] | None:
    found = await log.get_bodies((digest,))
    decoded: dict[str, Any] | None = msgspec.json.decode(found[digest]) if digest in found else None
    return decoded


def steps(pairs: Iterable[tuple[Record, v.Event]]) -> Iterable[Step]:
    """The records in words."""
    for record, event in pairs:
        yield Step(at=moment(record.time_ns), position=record.position, event=record.tag, says=tell(event))


def summary(events: Sequence[v.Event]) -> str:
    """The story in one sentence."""
    routed = next((event for event in events if isinstance(event, v.RequestRouted)), None)
    end = next((event for event in events if isinstance(event, v.ResponseServed | v.RequestFailed)), None)
    if isinstance(end, v.ResponseServed):
        who = "the local model" if end.by == "local" else "the remote model"
        degraded = f", degraded ({end.degraded})" if end.degraded is not None else ""
        told = f"answered by {who}{degraded}"
    elif isinstance(end, v.RequestFailed):
        told = f"not answered: {end.error}, {end.reason}"
    else:
        told = "not over, or cut off by a crash"
    return f"{told}; {routed.reason}" if routed is not None else told
