"""What a rehearsal showed, counted from the log and the record, nothing estimated."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import msgspec

from apprentice.results import Money, Status
from apprentice.runtime import Runtime
from apprentice_actors.ports import JsonObject, Question
from apprentice_events import vocabulary as v

CURVE_POINTS = 100


class RowOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came back for a row."""

    request_id: str | None
    output: JsonObject | None
    error: str | None = None


class Recall(msgspec.Struct, frozen=True, kw_only=True):
    """Of the rows that the remote gave this answer, the share that were answered so."""

    answer: str
    rows: int
    recall: float


class CurvePoint(msgspec.Struct, frozen=True, kw_only=True):
    """After ``requests`` rows: remote calls so far, shares so far."""

    requests: int
    remote_calls: int
    agreement: float
    local_share: float


class RehearsalReport(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of one rehearsal. Shares lie in [0, 1]."""

    requests: int
    answered: int
    errors: dict[str, int]
    remote_calls: int
    remote_share: float
    """Remote calls per request: what would still have been asked of the remote, audits and repeats included."""
    served_local: int
    agreement: float
    """Mean score of all answers against the recorded ones; an unanswered row scores 0."""
    agreement_local: float | None
    """The same among locally served answers, audited or not: the record knows them all."""
    accuracy: float | None
    """Share of answers equal to the gold value."""
    accuracy_remote: float | None
    """The recorded model's own."""
    recall_mean: float
    """Mean over the classes of the recorded answers."""
    recalls: tuple[Recall, ...]
    money: Money
    status: Status
    curve: tuple[CurvePoint, ...]


async def summarise(
    runtime: Runtime, task: str, expected: Sequence[tuple[JsonObject, Any]], outcomes: Sequence[RowOutcome]
) -> RehearsalReport:
    """Score every row against the record with the task's own evaluator."""
    scores = [
        await _score(runtime, task, outcome, answer) for outcome, (answer, _) in zip(outcomes, expected, strict=True)
    ]
    story = await _story(runtime)
    local = [story.served_by.get(outcome.request_id or "") == "local" for outcome in outcomes]
    status = runtime.status(task)
    answered = sum(outcome.output is not None for outcome in outcomes)
    recalls = _recalls(expected, scores)
    return RehearsalReport(
        requests=len(outcomes),
        answered=answered,
        errors=_errors(outcomes),
        remote_calls=story.remote_calls,
        remote_share=story.remote_calls / len(outcomes) if outcomes else 0.0,
        served_local=sum(local),
        agreement=_mean(scores) or 0.0,
        agreement_local=_mean([score for score, here in zip(scores, local, strict=True) if here]),
        accuracy=_accuracy([outcome.output for outcome in outcomes], expected),
        accuracy_remote=_accuracy([answer for answer, _ in expected], expected),
        recall_mean=_mean([one.recall for one in recalls]) or 0.0,
        recalls=recalls,
        money=status.money,
        status=status,
        curve=_curve(outcomes, scores, local, story),
    )


class _Story(msgspec.Struct):
    """What the log says about who answered and how many calls there were."""

    remote_calls: int = 0
    served_by: dict[str, str] = {}
    calls_of: dict[str, int] = {}


async def _story(runtime: Runtime) -> _Story:
    story = _Story()
    async for record in runtime.records(tags=(v.RemoteCallIntended.TAG, v.ResponseServed.TAG)):
        event = record.event()
        if isinstance(event, v.RemoteCallIntended):
            story.remote_calls += 1
            story.calls_of[event.request] = story.calls_of.get(event.request, 0) + 1
        elif isinstance(event, v.ResponseServed):
            story.served_by[event.request] = event.by
    return story


async def _score(runtime: Runtime, task: str, outcome: RowOutcome, answer: JsonObject) -> float:
    if outcome.output is None:
        return 0.0
    return await runtime.evaluator(task).score(outcome.output, answer, Question(task=task, input={}))


def _errors(outcomes: Sequence[RowOutcome]) -> dict[str, int]:
    counted: dict[str, int] = defaultdict(int)
    for outcome in outcomes:
        if outcome.error is not None:
            counted[outcome.error.partition(":")[0]] += 1
    return dict(counted)


def _value(answer: JsonObject | None) -> Any:
    """The answer of a one-field task, to be held against gold; otherwise the whole."""
    return next(iter(answer.values())) if answer is not None and len(answer) == 1 else answer


def _accuracy(outputs: Sequence[JsonObject | None], expected: Sequence[tuple[JsonObject, Any]]) -> float | None:
    judged = [(output, gold) for output, (_, gold) in zip(outputs, expected, strict=True) if gold is not None]
    return _mean([float(output is not None and gold in (_value(output), output)) for output, gold in judged])


def _recalls(expected: Sequence[tuple[JsonObject, Any]], scores: Sequence[float]) -> tuple[Recall, ...]:
    by_class: dict[str, list[float]] = defaultdict(list)
    for (answer, _), score in zip(expected, scores, strict=True):
        value = _value(answer)
        name = value if isinstance(value, str) else msgspec.json.encode(value, order="deterministic").decode()
        by_class[name].append(score)
    ordered = sorted(by_class.items(), key=lambda item: (-len(item[1]), item[0]))
    return tuple(Recall(answer=name, rows=len(hits), recall=_mean(hits) or 0.0) for name, hits in ordered)


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _curve(
    outcomes: Sequence[RowOutcome], scores: Sequence[float], local: Sequence[bool], story: _Story
) -> tuple[CurvePoint, ...]:
    every = max(1, len(outcomes) // CURVE_POINTS)
    calls, agreed, served_local, points = 0, 0.0, 0, []
    for count, (outcome, score, here) in enumerate(zip(outcomes, scores, local, strict=True), 1):
        calls += story.calls_of.get(outcome.request_id or "", 0)
        agreed += score
        served_local += here
        if count % every == 0 or count == len(outcomes):
            points.append(
                CurvePoint(
                    requests=count, remote_calls=calls, agreement=agreed / count, local_share=served_local / count
                )
            )
    return tuple(points)
