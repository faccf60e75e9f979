"""How fast the log appends durably: ratios of things measured side by side in one run.

Three writers do the same work: 64 callers at once, each waiting for its single event to be durable before it appends
the next one.

* the log itself: encoding, chaining, versions, keys;
* ``raw``: the least that can do group commit, a thread with ``sqlite3``, rows made beforehand, the same table and
  indexes, one future per event;
* the SQLite recorder of the ``eventsourcing`` package, from 64 threads or from one, whichever is faster.

All three commit with ``synchronous=FULL``; the disk's own share is measured as the latency of ``fdatasync`` on a file
in the same folder.
"""

import asyncio
import os
import queue
import sqlite3
import statistics
import tempfile
import threading
import time
from collections.abc import Awaitable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

from apprentice_events import replay, sqlite_file
from apprentice_events.log import Entry, Head, Row, draft, seal
from apprentice_events.sqlite import SqliteLog
from apprentice_events.vocabulary import LocalAnswered, RequestReceived, RequestRouted, ResponseServed

WRITERS = 64
DIGEST = "5e" * 32


def entries(request: str) -> list[Entry]:
    """What a request that a local model answers leaves in the log."""
    received = Entry(RequestReceived(request=request, input=DIGEST, key=request), request, None, request)
    rest = (
        RequestRouted(request=request, route="local_first", phase="steady_state", reason="under the gate", turn=17),
        LocalAnswered(request=request, version="task@v3", output=DIGEST, p_agree=0.93, latency_ms=1.25),
        ResponseServed(request=request, by="local", output=DIGEST, latency_ms=2.5),
    )
    return [received, *(Entry(event, request) for event in rest)]


def workload(events: int) -> list[list[Entry]]:
    """``events`` entries dealt out to the writers, each writer's in order. Request ids grow with time."""
    return [
        [entry for number in range(events // WRITERS // 4) for entry in entries(f"{number:08d}-{writer:08d}")]
        for writer in range(WRITERS)
    ]


def fdatasync_us(folder: Path, rounds: int = 200) -> float:
    """Median microseconds of making one more page of a file in ``folder`` durable."""
    taken = []
    with (folder / "sync").open("wb", buffering=0) as file:
        for _ in range(rounds):
            file.write(b"x" * 4096)
            start = time.perf_counter()
            os.fdatasync(file.fileno())
            taken.append(time.perf_counter() - start)
    return statistics.median(taken) * 1e6


async def append_with_log(path: Path, work: Sequence[Sequence[Entry]]) -> float:
    """Events per second through the log."""
    async with SqliteLog.open(path) as log:

        async def write(stream: str, mine: Sequence[Entry]) -> None:
            for version, entry in enumerate(mine):
                await log.append(stream, version, (entry,), time_ns=version)

        return await _rate(work, [write(f"stream-{n}", mine) for n, mine in enumerate(work)])


async def append_raw(path: Path, work: Sequence[Sequence[Entry]]) -> float:
    """Events per second through the least that can do group commit."""
    loop = asyncio.get_running_loop()
    writer = _RawWriter(path, loop)

    async def write(rows: Iterable[Row]) -> None:
        for row in rows:
            done: asyncio.Future[None] = loop.create_future()
            writer.jobs.put((row, done))
            await done

    rows = _dealt_rows(work)
    try:
        return await _rate(work, [write(mine) for mine in rows])
    finally:
        writer.stop()


class _RawWriter:
    """Takes what has gathered, inserts, commits, wakes the event loop once."""

    def __init__(self, path: Path, loop: asyncio.AbstractEventLoop) -> None:
        self.jobs: queue.SimpleQueue[tuple[Row, asyncio.Future[None]] | None] = queue.SimpleQueue()
        self._connection = sqlite_file.connect_writer(path)
        self._loop = loop
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        self.jobs.put(None)
        self._thread.join()
        self._connection.close()

    def _run(self) -> None:
        insert = f"INSERT INTO records ({sqlite_file.COLUMNS}) VALUES ({', '.join('?' * 11)})"
        while (first := self.jobs.get()) is not None:
            batch = [first]
            while not self.jobs.empty() and (job := self.jobs.get()) is not None:
                batch.append(job)
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.executemany(insert, [row for row, _ in batch])
            self._connection.execute("COMMIT")
            self._loop.call_soon_threadsafe(_wake, [done for _, done in batch])


def _wake(waiting: list[asyncio.Future[None]]) -> None:
    for done in waiting:
        done.set_result(None)


def _dealt_rows(work: Sequence[Sequence[Entry]]) -> list[list[Row]]:
    """The rows that the log would write if the writers took turns, dealt out to the writers."""
    dealt: list[list[Row]] = [[] for _ in work]
    head = Head()
    for version in range(len(work[0])):
        for number, mine in enumerate(work):
            stream = f"stream-{number}"
            (row,) = seal(head, stream, version, draft(stream, (mine[version],), version), version)
            head = Head(row[0], row[10])
            dealt[number].append(row)
    return dealt


async def _rate(work: Sequence[Sequence[Entry]], writers: Sequence[Awaitable[None]]) -> float:
    start = time.perf_counter()
    await asyncio.gather(*writers)
    return sum(map(len, work)) / (time.perf_counter() - start)


def append_with_eventsourcing(path: Path, work: Sequence[Sequence[Entry]], threads: int) -> float:
    """Events per second through the ``eventsourcing`` package's recorder, called from so many threads."""
    from eventsourcing.persistence import StoredEvent
    from eventsourcing.sqlite import SQLiteApplicationRecorder, SQLiteDatastore

    datastore = SQLiteDatastore(str(path))
    recorder = SQLiteApplicationRecorder(datastore)
    recorder.create_table()
    rows = _dealt_rows(work)

    def write(number: int) -> None:
        for row in rows[number]:
            recorder.insert_events([StoredEvent(UUID(int=number), row[2], row[3], row[9])])

    with ThreadPoolExecutor(threads) as pool:
        start = time.perf_counter()
        for done in [pool.submit(write, number) for number in range(len(work))]:
            done.result()
        rate = sum(map(len, work)) / (time.perf_counter() - start)
    datastore.close()
    return rate


def run_appends(events: int = 25_600, rounds: int = 5, folder: Path | None = None) -> dict[str, Any]:
    """Durable appends of 64 concurrent single-event writers: rates, and the log's ratio to each of the others.

    All take their turn in every round, and ratios are formed within a round: a disk that is slow for a while is slow
    for all. What is reported is the median over the rounds, of ratios also the extremes. The files lie in ``folder``
    (default: the current one), whose disk is thereby the one that is measured.
    """
    work = workload(events)
    small = workload(max(events // 10, 4 * WRITERS))
    found: list[_Round] = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory(dir=folder or Path.cwd()) as name:
            found.append(_one_round(Path(name), work, small))
    of_raw = [one.log / one.raw for one in found]
    times_other = [one.log / one.other for one in found]
    return {
        "sqlite": sqlite3.sqlite_version,
        "writers": WRITERS,
        "events": sum(map(len, work)),
        "rounds": rounds,
        "fdatasync_us": round(statistics.median(one.sync_us for one in found), 1),
        "log_events_per_s": round(statistics.median(one.log for one in found)),
        "raw_events_per_s": round(statistics.median(one.raw for one in found)),
        "eventsourcing_events_per_s": round(statistics.median(one.other for one in found)),
        "share_of_raw": round(statistics.median(of_raw), 3),
        "share_of_raw_range": _range(of_raw),
        "times_eventsourcing": round(statistics.median(times_other), 1),
        "times_eventsourcing_range": _range(times_other),
    }


class _Round(NamedTuple):
    sync_us: float
    raw: float
    log: float
    other: float


def _one_round(here: Path, work: Sequence[Sequence[Entry]], small: Sequence[Sequence[Entry]]) -> _Round:
    sync_us = fdatasync_us(here)
    raw = asyncio.run(append_raw(here / "raw.db", work))
    log = asyncio.run(append_with_log(here / "log.db", work))
    verdict = replay.verify(here / "log.db")
    assert verdict.records == sum(map(len, work)), verdict.reason
    other = max(
        append_with_eventsourcing(here / "other-64.db", small, WRITERS),
        append_with_eventsourcing(here / "other-1.db", small, 1),
    )
    return _Round(sync_us, raw, log, other)


def _range(values: Sequence[float]) -> str:
    return f"{min(values):.2f} to {max(values):.2f}"
