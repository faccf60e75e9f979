"""How fast a log is verified, and how fast and in how much memory its events become state again."""

import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import batched, islice
from pathlib import Path
from typing import Any

from apprentice_events import replay
from apprentice_events.log import Record
from apprentice_events.spend import SpendState
from apprentice_events.sqlite import SqliteLog, scan_file
from apprentice_events.task_state import TaskState, evolve
from apprentice_events.vocabulary import Event
from benchmarks.measuring import resident_mib
from benchmarks.traffic import TASK, steady_entries

EVENTS = 1_000_000
IN_MEMORY = 200_000
CHUNK = 2000
START_NS = 1_750_000_000 * 10**9
STEP_NS = 40 * 10**9
"""Time between two chunks: a million events span about half a year."""


class States:
    """What a restarting runtime folds: the task and the money."""

    def __init__(self) -> None:
        self.task = TaskState(task=TASK)
        self.spend = SpendState()

    def apply(self, record: Record, event: Event) -> None:
        """Take in one record."""
        evolve(self.task, event, record.time_ns)
        self.spend.apply(TASK, event, record.time_ns)


class Records:
    """Records already in memory."""

    def __init__(self, records: list[Record]) -> None:
        self._records = records

    def scan(self) -> Iterator[Record]:
        """All of them."""
        return iter(self._records)


async def fill(path: Path, events: int) -> float:
    """Write the log of a steady task; events per second, in appends of a few thousand."""
    start = time.perf_counter()
    async with SqliteLog.open(path) as log:
        version = 0
        for number, chunk in enumerate(batched(steady_entries(events), CHUNK)):
            time_ns = START_NS + number * STEP_NS
            version = (await log.append(f"task/{TASK}", version, chunk, time_ns=time_ns)).version
    return events / (time.perf_counter() - start)


def run_replay(*, quick: bool = False, folder: Path | None = None, events: int | None = None) -> dict[str, Any]:
    """Rates in events per second and the growth of memory over one pass through the file."""
    count = events or (EVENTS // 10 if quick else EVENTS)
    rounds = 1 if quick else 3
    with tempfile.TemporaryDirectory(dir=folder or Path.cwd()) as name:
        path = Path(name) / "log.db"
        filled = asyncio.run(fill(path, count))
        before = resident_mib()
        states, seconds = _timed(lambda: replay.rebuild(path, [States()])[0])
        grown = resident_mib() - before
        assert states.task.counters.requests > 0
        again = [seconds, *(_timed(lambda: replay.rebuild(path, [States()]))[1] for _ in range(rounds - 1))]
        verdict, verifying = _timed(lambda: replay.verify(path))
        assert verdict.ok, verdict.reason
        loaded = Records(list(islice(scan_file(path), min(count, IN_MEMORY))))
        memory = [_timed(lambda: replay.rebuild(loaded, [States()]))[1] for _ in range(rounds)]
        return {
            "events": count,
            "requests": states.task.counters.requests,
            "file_mib": round(path.stat().st_size / 2**20),
            "fill_events_per_s": round(filled),
            "from_file_events_per_s": round(count / statistics.median(again)),
            "in_memory_events_per_s": round(min(count, IN_MEMORY) / statistics.median(memory)),
            "verify_events_per_s": round(count / verifying),
            "grown_mib": round(grown, 1),
        }


def _timed[R](act: Callable[[], R]) -> tuple[R, float]:
    start = time.perf_counter()
    made = act()
    return made, time.perf_counter() - start
