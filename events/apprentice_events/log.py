"""The log: its port, the values that cross it, and an implementation in memory.

Every record stands in one stream (a task, the treasury …) at a gapless version, and in the whole log at a gapless
position. Appending states the version the writer saw last; if the stream moved on, nothing is written. The chain
over all records is sealed here, by :func:`seal`, for every implementation: same entries, same bytes.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Sequence
from itertools import islice
from typing import Protocol

import msgspec

from apprentice_events import chain, codec
from apprentice_events.bodies import Body
from apprentice_events.errors import ErasedBody, LogClosed, LogConflict, UnknownBody
from apprentice_events.vocabulary import Event

APPEND_ENTRIES_MAX = 4096
"""Entries that one append may carry."""

TIME_NS_MAX = 2**63 - 1


class Entry(msgspec.Struct, frozen=True, gc=False):
    """An event to append. ``correlation`` is usually the request id; ``key`` an idempotency key to be found again."""

    event: Event
    correlation: str | None = None
    causation: str | None = None
    key: str | None = None


class Record(msgspec.Struct, frozen=True, gc=False):
    """An event as it stands in the log, in its envelope. ``time_ns`` is UTC, ``digest`` has 32 bytes."""

    position: int
    stream: str
    version: int
    tag: str
    schema: int
    time_ns: int
    causation: str | None
    correlation: str | None
    key: str | None
    payload: bytes
    digest: bytes

    def event(self) -> Event:
        """Decode the payload; raises as :func:`apprentice_events.codec.decode` does."""
        return codec.decode(self.tag, self.schema, self.payload)


class Head(msgspec.Struct, frozen=True, gc=False):
    """The end of the log: last position (0 when empty) and digest. Kept outside, it makes a cut tail visible."""

    position: int = 0
    digest: bytes = chain.GENESIS


class Appended(msgspec.Struct, frozen=True, gc=False):
    """What an append made: the ``first`` and ``last`` position, and the ``version`` that its stream is at now."""

    first: int
    last: int
    version: int


type Row = tuple[int, str, int, str, int, int, str | None, str | None, str | None, bytes, bytes]
"""The fields of a :class:`Record`, in its order."""

type Draft = tuple[str, bytes, int, str | None, bytes | None, str | None, bytes | None, str | None, bytes | None, bytes]
"""An entry encoded: tag, schema, causation, correlation, key (text also as UTF-8) and payload."""


class EventLog(Protocol):
    """An append-only log of events, and the bodies they name."""

    async def append(
        self,
        stream: str,
        expected_version: int,
        entries: Sequence[Entry],
        *,
        time_ns: int,
        bodies: Sequence[Body] = (),
    ) -> Appended:
        """Append all entries and bodies, or none. They are durable when this returns.

        Raises :class:`LogConflict` if the stream is not at ``expected_version`` (0: does not exist yet), ``ValueError``
        for no entries or too many, :class:`LogPoisoned`, :class:`LogClosed`. A cancelled append happened or did not.
        """
        ...

    def read(
        self, after: int = 0, stream: str | None = None, tags: Collection[str] | None = None, limit: int | None = None
    ) -> AsyncIterator[Record]:
        """Records past position ``after``, in order, up to ``limit``; of one ``stream``, of ``tags``, if given."""
        ...

    def scan(self, after: int = 0, stream: str | None = None, tags: Collection[str] | None = None) -> Iterator[Record]:
        """As :meth:`read`, blocking: for recovery and auditors."""
        ...

    async def by_correlation(self, correlation: str) -> list[Record]:
        """Every record with this correlation id, in order."""
        ...

    async def find_key(self, stream: str, key: str) -> Record | None:
        """The latest record of ``stream`` that was appended under ``key``."""
        ...

    async def stream_version(self, stream: str) -> int:
        """The version of the stream's last record; 0 if it has none."""
        ...

    async def head(self) -> Head:
        """The end of what is durable."""
        ...

    async def get_body(self, digest: str) -> bytes:
        """A body's content. Raises :class:`ErasedBody` or :class:`UnknownBody`."""
        ...

    async def get_bodies(self, digests: Iterable[str]) -> dict[str, bytes]:
        """The contents of many bodies; erased ones are left out. Raises :class:`UnknownBody`."""
        ...

    async def erase_body(self, digest: str) -> bool:
        """Delete content and salt for good; the digest stays. False if erased before. Raises :class:`UnknownBody`."""
        ...

    async def close(self) -> None:
        """Finish what was begun and let go of the file. Closing twice is fine."""
        ...


def draft(stream: str, entries: Sequence[Entry], time_ns: int) -> list[Draft]:
    """Encode and check entries, in the caller's turn: a bad one fails its caller alone. Raises ``ValueError``."""
    if not stream:
        raise ValueError("an append needs the name of a stream; got an empty one")
    if not 0 < len(entries) <= APPEND_ENTRIES_MAX:
        raise ValueError(f"an append to {stream!r} has {len(entries)} entries; give 1 to {APPEND_ENTRIES_MAX}")
    if not 0 <= time_ns <= TIME_NS_MAX:
        raise ValueError(f"an append to {stream!r} has time_ns {time_ns}; give UTC nanoseconds since the epoch")
    return [
        (
            entry.event.TAG,
            entry.event.TAG.encode(),
            entry.event.SCHEMA,
            entry.causation,
            None if entry.causation is None else entry.causation.encode(),
            entry.correlation,
            None if entry.correlation is None else entry.correlation.encode(),
            entry.key,
            None if entry.key is None else entry.key.encode(),
            codec.encode(entry.event),
        )
        for entry in entries
    ]


def seal(head: Head, stream: str, version: int, drafts: Sequence[Draft], time_ns: int) -> list[Row]:
    """The rows of drafts that follow ``head`` and the stream's ``version``, chained one to the other."""
    rows: list[Row] = []
    position, digest = head.position, head.digest
    stream_utf8 = stream.encode()
    for tag, tag_utf8, schema, caused, caused_utf8, correlated, correlated_utf8, key, key_utf8, payload in drafts:
        position += 1
        version += 1
        digest = chain.link(
            digest,
            position,
            stream_utf8,
            version,
            tag_utf8,
            schema,
            time_ns,
            caused_utf8,
            correlated_utf8,
            key_utf8,
            payload,
        )
        rows.append((position, stream, version, tag, schema, time_ns, caused, correlated, key, payload, digest))
    return rows


def record_digest(previous: bytes, record: Record) -> bytes:
    """The digest that ``record`` must have after ``previous``."""
    return chain.link(
        previous,
        record.position,
        record.stream.encode(),
        record.version,
        record.tag.encode(),
        record.schema,
        record.time_ns,
        None if record.causation is None else record.causation.encode(),
        None if record.correlation is None else record.correlation.encode(),
        None if record.key is None else record.key.encode(),
        record.payload,
    )


class MemoryLog:
    """The log without a file: for tests and simulations. Same bytes, same errors, no threads, no clock."""

    def __init__(self) -> None:
        self._records: list[Record] = []
        self._streams: dict[str, list[Record]] = {}
        self._correlated: dict[str, list[Record]] = {}
        self._keys: dict[tuple[str, str], Record] = {}
        self._bodies: dict[str, Body | None] = {}
        self._closed = False

    async def append(
        self,
        stream: str,
        expected_version: int,
        entries: Sequence[Entry],
        *,
        time_ns: int,
        bodies: Sequence[Body] = (),
    ) -> Appended:
        """See :class:`EventLog`. Gives way before and after it writes: a cancelled append is lost or done."""
        self._refuse_if_closed()
        drafts = draft(stream, entries, time_ns)
        await asyncio.sleep(0)
        self._refuse_if_closed()
        actual = len(self._streams.get(stream, ()))
        if actual != expected_version:
            raise LogConflict(stream, expected_version, actual)
        for row in seal(self._head(), stream, actual, drafts, time_ns):
            self._keep(Record(*row))
        for body in bodies:
            self._bodies.setdefault(body.digest, body)
        last = len(self._records)
        await asyncio.sleep(0)
        return Appended(last - len(drafts) + 1, last, actual + len(drafts))

    async def read(
        self, after: int = 0, stream: str | None = None, tags: Collection[str] | None = None, limit: int | None = None
    ) -> AsyncIterator[Record]:
        """See :class:`EventLog`."""
        await asyncio.sleep(0)
        for record in islice(self.scan(after, stream, tags), limit):
            yield record

    def scan(self, after: int = 0, stream: str | None = None, tags: Collection[str] | None = None) -> Iterator[Record]:
        """See :class:`EventLog`."""
        self._refuse_if_closed()
        wanted = None if tags is None else frozenset(tags)
        found: Iterator[Record]
        if stream is None:
            found = islice(self._records, after, len(self._records))
        else:
            found = iter([record for record in self._streams.get(stream, ()) if record.position > after])
        return (record for record in found if wanted is None or record.tag in wanted)

    async def by_correlation(self, correlation: str) -> list[Record]:
        """See :class:`EventLog`."""
        self._refuse_if_closed()
        return list(self._correlated.get(correlation, ()))

    async def find_key(self, stream: str, key: str) -> Record | None:
        """See :class:`EventLog`."""
        self._refuse_if_closed()
        return self._keys.get((stream, key))

    async def stream_version(self, stream: str) -> int:
        """See :class:`EventLog`."""
        self._refuse_if_closed()
        return len(self._streams.get(stream, ()))

    async def head(self) -> Head:
        """See :class:`EventLog`."""
        self._refuse_if_closed()
        return self._head()

    async def get_body(self, digest: str) -> bytes:
        """See :class:`EventLog`."""
        found = await self.get_bodies((digest,))
        if digest not in found:
            raise ErasedBody(digest)
        return found[digest]

    async def get_bodies(self, digests: Iterable[str]) -> dict[str, bytes]:
        """See :class:`EventLog`."""
        self._refuse_if_closed()
        found: dict[str, bytes] = {}
        for digest in digests:
            if digest not in self._bodies:
                raise UnknownBody(digest)
            body = self._bodies[digest]
            if body is not None:
                found[digest] = body.content
        return found

    async def erase_body(self, digest: str) -> bool:
        """See :class:`EventLog`."""
        self._refuse_if_closed()
        await asyncio.sleep(0)
        if digest not in self._bodies:
            raise UnknownBody(digest)
        had = self._bodies[digest] is not None
        self._bodies[digest] = None
        return had

    async def close(self) -> None:
        """See :class:`EventLog`. :meth:`reopen` brings it back."""
        self._closed = True

    def reopen(self) -> None:
        """Use the log again after :meth:`close`, as the next process would use the same file."""
        self._closed = False

    def _keep(self, record: Record) -> None:
        self._records.append(record)
        self._streams.setdefault(record.stream, []).append(record)
        if record.correlation is not None:
            self._correlated.setdefault(record.correlation, []).append(record)
        if record.key is not None:
            self._keys[record.stream, record.key] = record

    def _head(self) -> Head:
        return Head(len(self._records), self._records[-1].digest) if self._records else Head()

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise LogClosed("in memory")
