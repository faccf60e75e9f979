"""The one thread that writes to the file, and its queue.

Whatever gathered while a transaction was committing goes into the next one (group commit), so the cost of a commit
is shared by all who wait at the time. A thread of its own, instead of an executor's, because nothing that can be
cancelled may stand inside a transaction: a caller that gives up only stops waiting.

Rows go in by multi-row inserts. sqlite3 lets go of the interpreter lock once per statement and has to win it back from
a possibly busy event loop; doing so once per row, as ``executemany`` does, makes a batch take several times as long.
They say ``OR ROLLBACK`` because a statement that can fail alone makes SQLite journal every page it changes, which costs
as much again as the insert; a violated constraint ends the log's service anyway.
"""

import asyncio
import sqlite3
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import chain, groupby
from typing import Any

import msgspec

from apprentice_events import sqlite_file
from apprentice_events.bodies import Body
from apprentice_events.errors import LogClosed, LogConflict, LogError, LogPoisoned, UnknownBody
from apprentice_events.log import APPEND_ENTRIES_MAX, Appended, Draft, Head, Row, seal

BATCH_ENTRIES_MAX = 4096
"""Entries after which a transaction takes in no further append."""

QUEUE_ENTRIES_MAX = 2 * APPEND_ENTRIES_MAX
"""Entries that may wait; whoever comes then waits for room."""

SCRUB_RETRY_S = 0.25
"""Seconds after which an erasure that a reader kept from leaving the WAL is tried again."""


class AppendJob(msgspec.Struct, gc=False, eq=False):
    """One append, encoded, and who waits for it."""

    stream: str
    expected: int
    drafts: list[Draft]
    bodies: Sequence[Body]
    time_ns: int
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]

    @property
    def weight(self) -> int:
        """What it counts for in the limits of queue and batch: its entries."""
        return len(self.drafts)


class EraseJob(msgspec.Struct, gc=False, eq=False):
    """The erasure of one body, and who waits for it."""

    digest: str
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    weight: int = 1


type Job = AppendJob | EraseJob
type Outcome = Appended | bool | LogError | None


class Fenced(Exception):
    """The epoch in the file is not ours: a newer writer opened it."""


class Writer:
    """Owns the writing connection. :meth:`offer` is for any thread, everything with an underscore for its own."""

    def __init__(self, connection: sqlite3.Connection, where: str) -> None:
        self.head = sqlite_file.read_tail(connection)
        self.epoch = int(connection.execute("UPDATE meta SET epoch = epoch + 1 RETURNING epoch").fetchone()[0])
        self._poison = ""
        self._connection = connection
        self._where = where
        self._versions: dict[str, int] = {}
        self._unscrubbed = False
        self._jobs: deque[Job] = deque()
        self._entries_waiting = 0
        self._room: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[Any]]] = []
        self._closing = False
        self._work = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="apprentice-log-writer", daemon=True)
        self._thread.start()

    def offer(self, job: Job) -> asyncio.Future[Any] | None:
        """Queue the job; or, when the queue is full, return a future that is done when trying again makes sense.

        Raises :class:`LogPoisoned`, :class:`LogClosed`.
        """
        with self._work:
            if self._closing:
                raise LogClosed(self._where)
            if self._poison:
                raise LogPoisoned(self._where, self._poison)
            if self._entries_waiting >= QUEUE_ENTRIES_MAX:
                room: asyncio.Future[Any] = job.loop.create_future()
                self._room.append((job.loop, room))
                return room
            self._jobs.append(job)
            self._entries_waiting += job.weight
            self._work.notify()
            return None

    def close(self) -> None:
        """Commit what waits, fold the WAL back, close. Blocks until done; may be called again."""
        with self._work:
            self._closing = True
            self._work.notify()
        self._thread.join()

    def _run(self) -> None:
        while not self._closing or self._jobs:  # in this order: once it is closing, no job is added any more
            for kind, group in groupby(self._take(), type):
                if kind is AppendJob:
                    self._guard(self._append, [job for job in group if isinstance(job, AppendJob)])
                else:
                    self._guard(self._erase, [job for job in group if isinstance(job, EraseJob)])
            if self._unscrubbed and not self._poison:
                self._guard(self._scrub, [])
        self._shut()

    def _take(self) -> list[Job]:
        """As many jobs as one transaction may hold; waits for the first, yet not for ever with work left over."""
        with self._work:
            if not self._jobs and not self._closing:
                self._work.wait(SCRUB_RETRY_S if self._unscrubbed and not self._poison else None)
            jobs: list[Job] = []
            entries = 0
            while self._jobs and entries < BATCH_ENTRIES_MAX:
                jobs.append(self._jobs.popleft())
                entries += jobs[-1].weight
            self._entries_waiting -= entries
            room, self._room = self._room, []
        _deliver([(loop, future, None) for loop, future in room])
        return jobs

    def _guard[J: (AppendJob, EraseJob)](self, act: Callable[[list[J]], list[Outcome]], jobs: list[J]) -> None:
        """Run one transaction; whatever goes wrong in it poisons the log, since its outcome is not known."""
        outcomes: list[Outcome] | None = None
        if not self._poison:
            try:
                outcomes = act(jobs)
            except Fenced:
                self._die("another process took over its writing")
            except Exception as error:  # whatever it is, the waiters must hear of it and nothing be written after it
                self._die(f"a commit failed ({type(error).__name__}: {error})")
        if outcomes is None:
            outcomes = [LogPoisoned(self._where, self._poison) for _ in jobs]
        _deliver([(job.loop, job.future, outcome) for job, outcome in zip(jobs, outcomes, strict=True)])

    def _die(self, cause: str) -> None:
        with self._work:
            self._poison = cause
        with suppress(sqlite3.Error):  # lets go of SQLite's write lock, for whoever took over
            self._connection.execute("ROLLBACK")

    def _append(self, jobs: list[AppendJob]) -> list[Outcome]:
        outcomes: list[Outcome] = []
        rows: list[Row] = []
        bodies: list[Body] = []
        head, moved = self.head, dict[str, int]()
        for job in jobs:
            actual = moved[job.stream] if job.stream in moved else self._version(job.stream)
            if actual != job.expected:
                outcomes.append(LogConflict(job.stream, job.expected, actual))
                continue
            made = seal(head, job.stream, actual, job.drafts, job.time_ns)
            rows += made
            bodies += job.bodies
            outcomes.append(Appended(head.position + 1, made[-1][0], made[-1][2]))
            head, moved[job.stream] = Head(made[-1][0], made[-1][10]), made[-1][2]
        if rows:
            self._commit(rows, bodies)
            self.head = head
            self._versions |= moved
        return outcomes

    def _version(self, stream: str) -> int:
        if stream not in self._versions:
            self._versions[stream] = sqlite_file.stream_version(self._connection, stream)
        return self._versions[stream]

    def _commit(self, rows: list[Row], bodies: list[Body]) -> None:
        self._begin()
        self._insert(_RECORDS, rows)
        self._insert(_BODIES, [(sqlite_file.body_key(body.digest), body.salt, body.content) for body in bodies])
        self._connection.execute("COMMIT")

    def _insert(self, statements: dict[int, str], rows: Sequence[tuple[Any, ...]]) -> None:
        start = 0
        while start < len(rows):
            size = next(size for size in statements if size <= len(rows) - start)
            values = tuple(chain.from_iterable(rows[start : start + size]))
            self._connection.execute(statements[size], values)
            start += size

    def _begin(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        if self._connection.execute("SELECT epoch FROM meta").fetchone()[0] != self.epoch:
            raise Fenced

    def _erase(self, jobs: list[EraseJob]) -> list[Outcome]:
        self._begin()
        outcomes: list[Outcome] = []
        for job in jobs:
            digest = sqlite_file.body_key(job.digest)
            found = self._connection.execute("SELECT content IS NOT NULL FROM bodies WHERE digest = ?", (digest,))
            row = found.fetchone()
            self._connection.execute("UPDATE bodies SET salt = NULL, content = NULL WHERE digest = ?", (digest,))
            outcomes.append(UnknownBody(job.digest) if row is None else bool(row[0]))
        self._connection.execute("COMMIT")
        self._unscrubbed = True
        self._scrub([])
        return outcomes

    def _scrub(self, _: list[EraseJob]) -> list[Outcome]:
        """Fold the WAL back and cut it, so that no old copy of an erased body stays; later if a reader is busy."""
        self._connection.execute("PRAGMA busy_timeout = 0")
        blocked = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        self._connection.execute("PRAGMA busy_timeout = 5000")
        self._unscrubbed = bool(blocked)
        return []

    def _shut(self) -> None:
        if not self._poison:
            with suppress(sqlite3.Error):  # the WAL holds everything; the next one to open the file folds it back
                self._scrub([])
        else:  # after a failed fsync the file must be left as it is
            self._connection.setconfig(sqlite3.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, True)
        self._connection.close()


def _statements(insert: str, columns: int) -> dict[int, str]:
    """Multi-row inserts by their number of rows, largest first: every small number, then powers of two."""
    row = f"({', '.join('?' * columns)})"
    sizes = (512, 256, 128, 64, 32, *range(16, 0, -1))
    return {size: f"{insert} VALUES {', '.join([row] * size)}" for size in sizes}


_RECORDS = _statements(f"INSERT OR ROLLBACK INTO records ({sqlite_file.COLUMNS})", len(sqlite_file.COLUMNS.split(", ")))
_BODIES = _statements("INSERT OR IGNORE INTO bodies (digest, salt, content)", 3)


def _deliver(outcomes: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[Any], Outcome]]) -> None:
    """Tell every waiter, with one wake-up per event loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Any], Outcome]]] = defaultdict(list)
    for loop, future, outcome in outcomes:
        by_loop[loop].append((future, outcome))
    for loop, told in by_loop.items():
        try:
            loop.call_soon_threadsafe(_tell, told)
        except RuntimeError:  # that loop is closed: nobody waits there any more
            continue


def _tell(told: list[tuple[asyncio.Future[Any], Outcome]]) -> None:
    for future, outcome in told:
        if future.done():  # cancelled while it waited
            continue
        if isinstance(outcome, LogError):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
