"""What a thousand idle tasks cost: memory, the time to start, and whether the one that works notices them."""

import asyncio
import multiprocessing
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from apprentice.runtime import Runtime
from benchmarks.frontier_process import frontier
from benchmarks.log_bench import fdatasync_us
from benchmarks.measuring import Load, Row, closed_loop, resident_mib
from benchmarks.task import make_config, make_world, ticket

TASK = "task-0"


def run_idle(*, quick: bool = False, folder: Path | None = None) -> dict[str, Any]:
    """One task alone, and the same among a thousand: opened fresh, and opened again on the log it left.

    Each in a process of its own, so that none finds the memory that another one gave back.
    """
    rows: list[Row] = []
    requests = 50 if quick else 500
    with tempfile.TemporaryDirectory(dir=folder or Path.cwd()) as name, frontier(0.0) as url:
        here = Path(name)
        sync_us = fdatasync_us(here)
        # taking turns, so that a busy moment of the machine shows as such
        for part, tasks, log in (("a", 1, "fresh"), ("b", 1000, "fresh"), ("a", 1, "again"), ("b", 1000, "again")):
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as own:
                rows.append(own.submit(_measured, url, here / part, tasks, requests, log).result())
    return {"fdatasync_us": round(sync_us, 1), "rows": rows}


def _measured(url: str, folder: Path, tasks: int, requests: int, log: str) -> Row:
    return asyncio.run(_measure(url, folder, tasks, requests, log))


async def _measure(url: str, folder: Path, tasks: int, requests: int, log: str) -> Row:
    config = make_config(folder, learns=False, tasks=tasks)
    world = make_world(url, folder)
    before, start = resident_mib(), time.perf_counter()
    async with Runtime.open(config, world=world) as runtime:
        opened, grown = time.perf_counter() - start, resident_mib() - before
        load = await _asked(runtime, requests)
        start = time.perf_counter()
    closed = time.perf_counter() - start
    return {
        "tasks": tasks,
        "log": log,
        "open_s": round(opened, 3),
        "close_s": round(closed, 3),
        "grown_mib": round(grown, 1),
        "kib_per_task": round(grown * 1024 / tasks, 1),
        "p50_ms": round(load.quantile(0.5), 3),
        "p99_ms": round(load.quantile(0.99), 3),
    }


async def _asked(runtime: Runtime, requests: int) -> Load:
    await closed_loop(lambda number: runtime.submit(TASK, ticket(number)), callers=1, requests=10)
    return await closed_loop(lambda number: runtime.submit(TASK, ticket(number)), callers=1, requests=requests)
