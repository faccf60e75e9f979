"""Which examples of a task's log become rows of a dataset, and why the others do not.

A person's answer comes first: a correction stands in for every answer to the same request or the same input. Of several
answers to one input the last one counts. An answer that a person rated below a half is nobody's example, unless it was
corrected. Which side of the split a row is on was decided when it was collected, by the hash of its input.

Where personal data are redacted, rows are the same that read the same afterwards, and the first one decides the side
for all of them: otherwise a held-out input could differ from a trained one in nothing but a name that no model sees.
"""

from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from apprentice_actors.policy.holdout import input_hash
from apprentice_actors.ports import Example
from apprentice_events import vocabulary as v
from apprentice_events.log import Record

type Redact = Callable[[str, Example], Example]
"""A task's row as a trainer may see it; what it raises ends the training."""

RATING_MIN = 0.5
"""An answer that was rated lower is not learned from."""
TAGS_MAX = 50
"""Tags that statistics name, the most frequent ones."""

CORRECTED, REPEATED, ERASED = "replaced by a correction", "another answer to the same input counts", "erased"
DISLIKED, FORBIDDEN = f"rated below {RATING_MIN:g}", "the provider's terms forbid it"


class Records(Protocol):
    """What rows are gathered from: the reading half of an event log."""

    def read(
        self, after: int = 0, stream: str | None = None, tags: Collection[str] | None = None, limit: int | None = None
    ) -> AsyncIterator[Record]:
        """As :meth:`apprentice_events.log.EventLog.read`."""
        ...

    async def by_correlation(self, correlation: str) -> list[Record]:
        """As :meth:`apprentice_events.log.EventLog.by_correlation`."""
        ...

    async def get_bodies(self, digests: Iterable[str]) -> dict[str, bytes]:
        """As :meth:`apprentice_events.log.EventLog.get_bodies`."""
        ...


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """An example with its side of the split."""

    example: Example
    shown: Example
    """The example as a trainer may see it."""
    holdout: bool


class Gathered(msgspec.Struct, frozen=True, kw_only=True):
    """The rows in the order of collecting, and how many examples were left out for which reason."""

    rows: tuple[Row, ...]
    left_out: Mapping[str, int]


async def gather(log: Records, task: str, redact: Redact, *, fresh_after: int = 0, upto: int | None = None) -> Gathered:
    """The rows among the first ``upto`` collected examples (None: all); the first ``fresh_after`` are not fresh."""
    stream = f"task/{task}"
    collected = [event async for event in _events(log, stream, v.ExampleCollected, upto)]
    bodies = await log.get_bodies({digest for one in collected for digest in (one.input, one.output)})
    corrected = {one.request for one in collected if one.source == "correction"}
    disliked = await _disliked(log, stream)
    left_out: Counter[str] = Counter()
    chosen = _Chosen(left_out)
    for ordinal, one in enumerate(collected):
        if one.source == "remote" and one.request in corrected:
            left_out[CORRECTED] += 1
        elif one.input not in bodies or one.output not in bodies:
            left_out[ERASED] += 1
        elif (one.request, one.output) in disliked:
            left_out[DISLIKED] += 1
        else:
            example = _example(one, bodies, fresh=ordinal >= fresh_after)
            chosen.take(Row(example=example, shown=redact(task, example), holdout=one.holdout))
    if forbidden := len([event async for event in _events(log, stream, v.ExampleWithheld)]):
        left_out[FORBIDDEN] = forbidden
    return Gathered(rows=tuple(chosen.rows.values()), left_out=left_out)


class _Chosen:
    """One row per input. The newest answer takes its place in the order too, but never a correction's."""

    def __init__(self, left_out: Counter[str]) -> None:
        self.rows: dict[bytes, Row] = {}
        self._sides: dict[bytes, bool] = {}
        self._left_out = left_out

    def take(self, row: Row) -> None:
        name = input_hash(row.shown.input)
        side = self._sides.setdefault(name, row.holdout)
        before = self.rows.get(name)
        if before is not None:
            self._left_out[REPEATED] += 1
            if before.example.source == "correction" != row.example.source:
                return
            del self.rows[name]
        self.rows[name] = msgspec.structs.replace(row, holdout=side)


def _example(one: v.ExampleCollected, bodies: Mapping[str, bytes], *, fresh: bool) -> Example:
    return Example(
        request=one.request,
        input=msgspec.json.decode(bodies[one.input]),
        output=msgspec.json.decode(bodies[one.output]),
        weight=one.weight,
        source=one.source,
        tags=one.tags,
        fresh=fresh,
    )


async def _disliked(log: Records, stream: str) -> set[tuple[str, str]]:
    """(request, output) of answers whose last rating is low. A rating speaks of the answer that was served."""
    ratings = {event.request: event.rating async for event in _events(log, stream, v.FeedbackReceived)}
    found: set[tuple[str, str]] = set()
    for request in (request for request, rating in ratings.items() if rating < RATING_MIN):
        served = (record.event() for record in await log.by_correlation(request))
        found |= {(request, event.output) for event in served if isinstance(event, v.ResponseServed)}
    return found


async def _events[E: v.Event](log: Records, stream: str, kind: type[E], limit: int | None = None) -> AsyncIterator[E]:
    async for record in log.read(stream=stream, tags=(kind.TAG,), limit=limit):
        event = record.event()
        assert isinstance(event, kind)
        yield event


def statistics(rows: Sequence[Row], left_out: Mapping[str, int], fields: Sequence[str] = ()) -> v.DatasetStatistics:
    """What ``rows`` are made of; ``fields`` are those of the output whose values are listed in its schema."""
    tags = Counter(tag for row in rows for tag in set(row.shown.tags))
    labels = {
        field: Counter(_spelled(row.shown.output[field]) for row in rows if field in row.shown.output)
        for field in fields
    }
    return v.DatasetStatistics(
        sources=_counts(Counter(row.shown.source for row in rows)),
        tags=_counts(tags, TAGS_MAX),
        labels={field: _counts(counted) for field, counted in labels.items() if counted},
        fresh=sum(row.shown.fresh for row in rows),
        left_out=_counts(Counter(left_out)),
    )


def _counts(counted: Counter[str], most: int | None = None) -> dict[str, int]:
    """The largest first, equal ones by name: the same rows give the same text."""
    return dict(sorted(counted.items(), key=lambda item: (-item[1], item[0]))[:most])


def _spelled(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
