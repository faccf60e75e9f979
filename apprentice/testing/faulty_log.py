"""A log that fails when it is told to, and is the log it wraps otherwise: it passes the same contract suite."""

from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Literal

from apprentice_events.bodies import Body
from apprentice_events.errors import LogConflict, LogPoisoned
from apprentice_events.log import Appended, Entry, EventLog, Head, Record

type LogFault = Literal["conflict", "lost", "doubtful", "poisoned"]
"""``conflict``: another writer was faster. ``lost``: nothing was written. ``doubtful``: everything was, and yet the
append raises. ``poisoned``: nothing was written, and nothing will be."""


class FaultyLog:
    """Wraps any log. ``faults`` names the appends that fail, counted from 0, of ``stream`` alone if one is given.

    Implements :class:`apprentice_events.log.EventLog`.
    """

    def __init__(
        self, inner: EventLog, faults: Mapping[int, LogFault] | None = None, stream: str | None = None
    ) -> None:
        self.inner = inner
        self.faults = dict(faults or {})
        self.stream = stream
        self.appends = 0
        """How many appends were asked for, of the stream that is watched."""
        self.poisoned = False

    def fail_next(self, fault: LogFault, count: int = 1) -> None:
        """Let the next ``count`` appends fail."""
        self.faults.update(dict.fromkeys(range(self.appends, self.appends + count), fault))

    async def append(
        self,
        stream: str,
        expected_version: int,
        entries: Sequence[Entry],
        *,
        time_ns: int,
        bodies: Sequence[Body] = (),
    ) -> Appended:
        """See :class:`EventLog`; fails as told."""
        fault = self._draw(stream)
        if fault == "conflict":
            raise LogConflict(stream, expected_version, expected_version + 1)
        if fault == "poisoned":
            self.poisoned = True
        if self.poisoned or fault == "lost":
            raise LogPoisoned("under test", "a simulated failure before the commit")
        appended = await self.inner.append(stream, expected_version, entries, time_ns=time_ns, bodies=bodies)
        if fault == "doubtful":
            raise LogPoisoned("under test", "a simulated failure after the commit")
        return appended

    def _draw(self, stream: str) -> LogFault | None:
        if self.stream not in (None, stream):
            return None
        self.appends += 1
        return self.faults.get(self.appends - 1)

    def read(
        self, after: int = 0, stream: str | None = None, tags: Collection[str] | None = None, limit: int | None = None
    ) -> AsyncIterator[Record]:
        """See :class:`EventLog`."""
        return self.inner.read(after, stream, tags, limit)

    def scan(self, after: int = 0, stream: str | None = None, tags: Collection[str] | None = None) -> Iterator[Record]:
        """See :class:`EventLog`."""
        return self.inner.scan(after, stream, tags)

    async def by_correlation(self, correlation: str) -> list[Record]:
        """See :class:`EventLog`."""
        return await self.inner.by_correlation(correlation)

    async def find_key(self, stream: str, key: str) -> Record | None:
        """See :class:`EventLog`."""
        return await self.inner.find_key(stream, key)

    async def stream_version(self, stream: str) -> int:
        """See :class:`EventLog`."""
        return await self.inner.stream_version(stream)

    async def head(self) -> Head:
        """See :class:`EventLog`."""
        return await self.inner.head()

    async def get_body(self, digest: str) -> bytes:
        """See :class:`EventLog`."""
        return await self.inner.get_body(digest)

    async def get_bodies(self, digests: Iterable[str]) -> dict[str, bytes]:
        """See :class:`EventLog`."""
        return await self.inner.get_bodies(digests)

    async def erase_body(self, digest: str) -> bool:
        """See :class:`EventLog`."""
        return await self.inner.erase_body(digest)

    async def close(self) -> None:
        """See :class:`EventLog`."""
        await self.inner.close()
