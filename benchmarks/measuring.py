"""Small tools of all measurements: closed-loop load, quantiles, memory, and how what was found is told and kept."""

import asyncio
import datetime as dt
import json
import os
import platform
import subprocess
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"

type Row = Mapping[str, Any]


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What a closed loop of callers saw. Latencies in milliseconds, ascending."""

    latencies_ms: list[float]
    seconds: float

    @property
    def per_s(self) -> float:
        """Requests per second."""
        return len(self.latencies_ms) / self.seconds

    def quantile(self, share: float) -> float:
        """The latency that ``share`` of the requests did not pass."""
        return self.latencies_ms[min(int(share * len(self.latencies_ms)), len(self.latencies_ms) - 1)]


async def closed_loop(act: Callable[[int], Awaitable[object]], *, callers: int, requests: int, first: int = 0) -> Load:
    """``callers`` at once, each asking its next request as soon as the last is answered; numbers from ``first``."""
    numbers = iter(range(first, first + requests))
    taken: list[float] = []

    async def caller() -> None:
        for number in numbers:
            start = time.perf_counter()
            await act(number)
            taken.append((time.perf_counter() - start) * 1e3)

    start = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(callers):
            group.create_task(caller())
    return Load(latencies_ms=sorted(taken), seconds=time.perf_counter() - start)


def resident_mib() -> float:
    """Memory of this process that is in RAM, in MiB. Linux only; 0 elsewhere."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    load = os.getloadavg()[0]
    return {
        "at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count(),
        "load_1min": round(load, 2),
    }


def _commit() -> str:
    try:
        found = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    except OSError:
        return "unknown"
    return found.stdout.strip() or "unknown"


def show(title: str, rows: Sequence[Row], note: str = "") -> None:
    """A table with one column per key of the first row."""
    table = Table(title=title, caption=note or None, title_justify="left", caption_justify="left")
    for name in rows[0]:
        table.add_column(name.replace("_", " "), justify="right")
    for row in rows:
        table.add_row(*(_spelled(row[name]) for name in rows[0]))
    Console(width=None if os.isatty(1) else 150).print(table)


def _spelled(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.2f}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def keep(name: str, found: Mapping[str, Any], *, quick: bool) -> Path:
    """Write what was found as JSON beside what it was measured on; the newest run of each kind is kept.

    Quick runs go into a folder of their own, which version control ignores.
    """
    folder = RESULTS / "tmp" if quick else RESULTS
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps({"machine": machine(), **found}, indent=2) + "\n", encoding="utf-8")
    return path
