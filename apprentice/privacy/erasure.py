"""Erasing what a request held: its input, every answer, corrections and comments.

The events come first and the content goes after them, so that a crash between the two leaves a promise which
:func:`finish` keeps at the next start. Digests, times, costs and scores stay: the chain still verifies.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import msgspec

from apprentice.errors import DeadlineExceeded
from apprentice_actors.lessons_effects import DATA, discard_data
from apprentice_actors.ports import Clock
from apprentice_events import vocabulary as v
from apprentice_events.errors import UnknownBody
from apprentice_events.log import EventLog

POLL_S = 0.002
_TRAINING = (v.TrainingTriggered.TAG, v.TrainingFailed.TAG)


class Erasure(msgspec.Struct, frozen=True, kw_only=True):
    """What was erased. ``bodies`` counts the contents that went now, 0 if all had gone before."""

    request_id: str
    bodies: int
    versions: tuple[str, ...]
    """Versions that were trained, or are being trained, on the content; those on disk are in a standing alert."""


class Traces(msgspec.Struct, frozen=True, kw_only=True):
    """What the log holds of one request."""

    bodies: tuple[v.Digest, ...]
    """In the order of their first mention."""
    announced: frozenset[v.Digest]
    """Those whose erasure stands in the log already."""
    versions: tuple[str, ...]

    @property
    def fresh(self) -> tuple[v.Digest, ...]:
        """Bodies of which no event says yet that they are erased."""
        return tuple(body for body in self.bodies if body not in self.announced)


async def landed(request_id: str, under_way: Callable[[], bool], clock: Clock, patience_s: float) -> None:
    """Wait until a request is over: as long as it is not, it may still write. Raises :class:`DeadlineExceeded`."""
    until = clock.monotonic() + patience_s
    while under_way():
        if clock.monotonic() >= until:
            raise DeadlineExceeded(f"{request_id} is still under way after {patience_s:g} s; erase it later")
        await clock.sleep(POLL_S)


async def trace(log: EventLog, task: str, request_id: str) -> Traces:
    """Every body of a request, and the versions whose training began after its first example was collected."""
    bodies: dict[v.Digest, None] = {}
    announced: set[v.Digest] = set()
    versions: dict[str, None] = {}
    collected: int | None = None
    for record in await log.by_correlation(request_id):
        event = record.event()
        if isinstance(event, v.BodyErased):
            announced.add(event.body)
            versions |= dict.fromkeys(event.versions)
            continue
        named = (getattr(event, field, None) for field in ("input", "output", "comment"))
        bodies |= dict.fromkeys(digest for digest in named if digest is not None)
        if isinstance(event, v.ExampleCollected) and collected is None:
            collected = record.position
    found = Traces(bodies=tuple(bodies), announced=frozenset(announced), versions=tuple(versions))
    if collected is None or not found.fresh:
        return found
    return msgspec.structs.replace(found, versions=await _trained_after(log, task, collected))


async def _trained_after(log: EventLog, task: str, position: int) -> tuple[str, ...]:
    versions: dict[str, None] = {}
    async for record in log.read(after=position, stream=f"task/{task}", tags=_TRAINING):
        event = record.event()
        if isinstance(event, v.TrainingTriggered):
            versions[event.version] = None
        elif isinstance(event, v.TrainingFailed):
            versions.pop(event.version, None)
    return tuple(versions)


async def erase_bodies(log: EventLog, bodies: tuple[v.Digest, ...]) -> int:
    """Delete contents and salts; how many were still there."""
    return sum([await log.erase_body(body) for body in bodies])


async def finish(log: EventLog, folders: Iterable[Path]) -> None:
    """Delete what the log says is erased, and datasets under the tasks' ``folders``: a crash may have come before."""
    for folder in folders:
        discard_data(folder / DATA)
    async for record in log.read(tags=(v.BodyErased.TAG,)):
        event = record.event()
        assert isinstance(event, v.BodyErased)
        with suppress(UnknownBody):  # of a log that was put together from events alone
            await log.erase_body(event.body)
