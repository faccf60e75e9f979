"""The log in one SQLite file: durable when :meth:`SqliteLog.append` returns, one writing process, many readers.

Appends go through the writer's thread (:mod:`apprentice_events.sqlite_writer`). Look-ups go through one reader thread
with a connection that cannot write. :meth:`SqliteLog.scan` reads in the calling thread, over a connection of its own.
"""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from apprentice_events import sqlite_file
from apprentice_events.bodies import Body
from apprentice_events.errors import ErasedBody, LogClosed
from apprentice_events.file_lock import FileLock
from apprentice_events.log import Appended, Entry, Head, Record, draft
from apprentice_events.sqlite_writer import AppendJob, EraseJob, Job, Writer


class SqliteLog:
    """See :class:`apprentice_events.log.EventLog`. May be used from several event loops. Made by :meth:`open`."""

    def __init__(self, path: Path, lock: FileLock, writer: Writer, reader: sqlite3.Connection) -> None:
        self.path = path
        self.sqlite_version = sqlite3.sqlite_version
        self._lock = lock
        self._writer = writer
        self._reader = reader
        self._reading = ThreadPoolExecutor(1, thread_name_prefix="apprentice-log-reader")
        self._closed = False
        self._finishing = threading.Lock()
        self._finished = False

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Open the log at ``path``, or create it (mode 0600), and take over its writing.

        Raises :class:`LogBusy` while another process writes it, :class:`NotALog`, and :class:`LogCorrupt` if its last
        records do not verify.
        """
        path = Path(path)
        with ExitStack() as undo:
            lock = FileLock(path)
            undo.callback(lock.release)
            connection = undo.enter_context(closing(sqlite_file.connect_writer(path)))
            reader = undo.enter_context(closing(sqlite_file.connect_reader(path)))
            log = cls(path, lock, Writer(connection, str(path)), reader)
            undo.pop_all()
        return log

    @property
    def epoch(self) -> int:
        """How often this file was opened for writing, this time included."""
        return self._writer.epoch

    async def append(
        self,
        stream: str,
        expected_version: int,
        entries: Sequence[Entry],
        *,
        time_ns: int,
        bodies: Sequence[Body] = (),
    ) -> Appended:
        """See :class:`EventLog`. Waits while more than a few thousand entries are queued."""
        loop = asyncio.get_running_loop()
        drafts = draft(stream, entries, time_ns)
        job = AppendJob(stream, expected_version, drafts, bodies, time_ns, loop, loop.create_future())
        appended: Appended = await self._through_writer(job)
        return appended

    async def erase_body(self, digest: str) -> bool:
        """See :class:`EventLog`. The bytes leave the file at once, or as soon as no reader stands in the way."""
        sqlite_file.body_key(digest)  # what is no digest fails here, before it reaches the writer
        loop = asyncio.get_running_loop()
        erased: bool = await self._through_writer(EraseJob(digest, loop, loop.create_future()))
        return erased

    async def read(
        self, after: int = 0, stream: str | None = None, tags: Collection[str] | None = None, limit: int | None = None
    ) -> AsyncIterator[Record]:
        """See :class:`EventLog`. Sees what is durable when each page of a few thousand records is read."""
        pages = sqlite_file.pages(self._reader, after, stream, tags, limit)
        while page := await self._look_up(lambda _: next(pages, None)):
            for row in page:
                yield Record(*row)

    def scan(self, after: int = 0, stream: str | None = None, tags: Collection[str] | None = None) -> Iterator[Record]:
        """See :class:`EventLog`."""
        self._refuse_if_closed()
        return scan_file(self.path, after, stream, tags)

    async def by_correlation(self, correlation: str) -> list[Record]:
        """See :class:`EventLog`."""
        return await self._look_up(lambda reader: sqlite_file.by_correlation(reader, correlation))

    async def find_key(self, stream: str, key: str) -> Record | None:
        """See :class:`EventLog`."""
        return await self._look_up(lambda reader: sqlite_file.find_key(reader, stream, key))

    async def stream_version(self, stream: str) -> int:
        """See :class:`EventLog`."""
        return await self._look_up(lambda reader: sqlite_file.stream_version(reader, stream))

    async def head(self) -> Head:
        """See :class:`EventLog`."""
        self._refuse_if_closed()
        return self._writer.head

    async def get_body(self, digest: str) -> bytes:
        """See :class:`EventLog`. Raises :class:`LogCorrupt` if the content is not what the digest was made of."""
        found = await self.get_bodies((digest,))
        if digest not in found:
            raise ErasedBody(digest)
        return found[digest]

    async def get_bodies(self, digests: Iterable[str]) -> dict[str, bytes]:
        """See :class:`EventLog`."""
        wanted = tuple(digests)
        return await self._look_up(lambda reader: sqlite_file.get_bodies(reader, wanted))

    async def close(self) -> None:
        """See :class:`EventLog`."""
        self._closed = True
        await asyncio.to_thread(self._finish)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _finish(self) -> None:
        with self._finishing:  # whoever closes second waits here for the first
            if self._finished:
                return
            self._reading.shutdown()
            self._reader.close()  # before the writer's connection, so that the last one to close tidies the WAL away
            self._writer.close()
            self._lock.release()
            self._finished = True

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise LogClosed(str(self.path))

    async def _look_up[T](self, question: Callable[[sqlite3.Connection], T]) -> T:
        self._refuse_if_closed()
        return await asyncio.get_running_loop().run_in_executor(self._reading, question, self._reader)

    async def _through_writer(self, job: Job) -> Any:
        while (room := self._writer.offer(job)) is not None:
            await room
        return await job.future


def scan_file(
    path: str | Path, after: int = 0, stream: str | None = None, tags: Collection[str] | None = None
) -> Iterator[Record]:
    """Records of the file at ``path``, over a connection of its own that cannot write; no log has to be open."""
    connection = sqlite_file.connect_reader(Path(path))
    try:
        for page in sqlite_file.pages(connection, after, stream, tags, None):
            for row in page:
                yield Record(*row)
    finally:
        connection.close()
