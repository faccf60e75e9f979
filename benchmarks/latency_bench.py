"""What ``Runtime.submit`` adds to the bare HTTP call it stands for, and what it takes when no call is needed.

The same frontier process answers all of them: ``bare`` posts the very bytes that the runtime would send, over httpx,
and reads the JSON; ``cold start`` goes through the runtime with two durable commits (intent, outcome); ``steady state``
is answered by a local model that takes no time itself, in one commit, with audits at the floor of 2% beside it.
"""

import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from apprentice.remote.anthropic import MessagesFormat
from apprentice.remote.secrets import Secret
from apprentice.runtime import Runtime
from apprentice.wiring import LOG_FILE, task_spec
from apprentice_actors.ports import Question
from apprentice_events.bodies import Body
from apprentice_events.log import Appended, Entry
from apprentice_events.sqlite import SqliteLog
from benchmarks.frontier_process import frontier
from benchmarks.log_bench import fdatasync_us
from benchmarks.measuring import Load, Row, closed_loop
from benchmarks.task import MODEL, make_config, make_world, ticket

CALLERS = (1, 16, 64)
TASK = "task-0"
COLD = "cold start"
FRONTIER_S = 0.25
"""A quick answer of a frontier model; real ones take longer."""
ROUNDS = 3
WARM_UP = 4
"""Requests per caller before the clock starts: connections stand, caches are warm."""

type Act = Callable[[int], Awaitable[object]]


class TimedLog(SqliteLog):
    """The log, with the time that each append took, in milliseconds."""

    taken_ms: list[float]

    async def append(
        self,
        stream: str,
        expected_version: int,
        entries: Sequence[Entry],
        *,
        time_ns: int,
        bodies: Sequence[Body] = (),
    ) -> Appended:
        """See :class:`SqliteLog`."""
        start = time.perf_counter()
        appended = await super().append(stream, expected_version, entries, time_ns=time_ns, bodies=bodies)
        self.taken_ms.append((time.perf_counter() - start) * 1e3)
        return appended


def timed_log(folder: Path) -> TimedLog:
    """Open a log in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    log = TimedLog.open(folder / LOG_FILE)
    log.taken_ms = []
    return log


async def measure_bare(url: str, folder: Path, callers: int, requests: int) -> Load:
    """The call by itself, with the client settings of the runtime's own."""
    config = make_config(folder, learns=False)
    spec = task_spec(config, config.tasks[0])
    wire = MessagesFormat(MODEL, Secret("benchmark-key", "the benchmark"))
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=100)
    async with httpx.AsyncClient(limits=limits, timeout=60.0) as client:

        async def ask(number: int) -> None:
            question = Question(
                task=TASK,
                input=ticket(number),
                description=spec.description,
                output_schema=spec.output_schema,
                max_output_tokens=spec.max_output_tokens,
            )
            response = await client.post(url + wire.path, content=wire.encode(question), headers=wire.headers())
            response.raise_for_status().json()

        return await _warmed(ask, callers, requests)


async def measure_cold(url: str, folder: Path, callers: int, requests: int) -> tuple[Load, float]:
    """Through the runtime, nothing learned yet; and the median milliseconds of a commit."""
    log = timed_log(folder)
    world = make_world(url, folder, log)
    async with Runtime.open(make_config(folder, learns=False), world=world) as runtime:
        load = await _warmed(lambda number: runtime.submit(TASK, ticket(number)), callers, requests, log)
    return load, statistics.median(log.taken_ms)


async def measure_steady(url: str, folder: Path, callers: int, requests: int) -> tuple[Load, float, float]:
    """Through the runtime once the local model has earned the traffic; commit time as above, share served locally."""
    log = timed_log(folder)
    world = make_world(url, folder, log)
    async with Runtime.open(make_config(folder, learns=True), world=world) as runtime:
        asked = await graduate(runtime)
        before = runtime.status(TASK)
        load = await _warmed(lambda number: runtime.submit(TASK, ticket(asked + number)), callers, requests, log)
        after = runtime.status(TASK)
        local = (after.served_local - before.served_local) / (after.requests - before.requests)
        await runtime.settled()
    return load, statistics.median(log.taken_ms), local


async def graduate(runtime: Runtime) -> int:
    """Let the task learn until it audits at the floor; how many requests that took."""
    for asked in range(0, 20_000, 64):
        await closed_loop(lambda number: runtime.submit(TASK, ticket(number)), callers=64, requests=64, first=asked)
        await runtime.settled()
        status = runtime.status(TASK)
        if status.phase == "steady_state" and status.promise.gate is not None and status.sampling_rate <= 0.021:
            return asked + 64
    raise RuntimeError(f"the task has not come to a steady state: {runtime.status(TASK)}")


async def _warmed(act: Act, callers: int, requests: int, log: TimedLog | None = None) -> Load:
    await closed_loop(act, callers=callers, requests=WARM_UP * callers)
    if log is not None:
        log.taken_ms.clear()
    return await closed_loop(act, callers=callers, requests=requests, first=WARM_UP * callers)


async def run_latency(*, quick: bool = False, folder: Path | None = None) -> dict[str, Any]:
    """All routes at 1, 16 and 64 callers, before a frontier of 250 ms and before one that answers at once.

    ``commits_ms`` is the median time of the commits: two of a cold start, one of a local answer. ``commits_share`` is
    their share of the median that a cold start adds, or of the whole median of a local answer.
    """
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(dir=folder or Path.cwd()) as name:
        here = Path(name)
        sync_us = fdatasync_us(here)
        for latency_s in (FRONTIER_S, 0.0):
            with frontier(latency_s) as url:
                for callers in CALLERS:
                    requests = _requests(callers, latency_s, quick)
                    at = here / f"{latency_s}-{callers}"
                    compared = await _compare(url, at, callers, requests, 1 if quick else ROUNDS)
                    rows += [{"frontier_ms": round(latency_s * 1e3), **row} for row in compared]
    return {"fdatasync_us": round(sync_us, 1), "rows": rows}


def _requests(callers: int, latency_s: float, quick: bool) -> int:
    """Of one route in one round."""
    full = max(20, 10 * callers) if latency_s else 500 + 20 * callers
    return max(full // 10, callers) if quick else full


class _Round(NamedTuple):
    bare: Load
    cold: Load
    cold_commit_ms: float
    steady: Load
    steady_commit_ms: float
    local: float


async def _compare(url: str, at: Path, callers: int, requests: int, rounds: int) -> list[Row]:
    """The three routes in turn, so that a busy moment of the machine hits all of them."""
    seen: list[_Round] = []
    for number in range(rounds):
        here = at / str(number)
        bare = await measure_bare(url, here, callers, requests)
        cold, cold_commit_ms = await measure_cold(url, here / "cold", callers, requests)
        steady = await measure_steady(url, here / "steady", callers, max(requests, 20 * callers))
        seen.append(_Round(bare, cold, cold_commit_ms, *steady))
    local = statistics.mean(one.local for one in seen)
    return [
        _row(callers, "bare httpx", [(one.bare, one.bare, 0.0) for one in seen]),
        _row(callers, COLD, [(one.cold, one.bare, 2 * one.cold_commit_ms) for one in seen]),
        _row(callers, f"steady ({local:.0%} local)", [(one.steady, one.bare, one.steady_commit_ms) for one in seen]),
    ]


def _row(callers: int, route: str, rounds: Sequence[tuple[Load, Load, float]]) -> Row:
    """Medians over the rounds; differences are formed within a round. Of a round: the load, the bare one, commits."""

    def middle(value: Callable[[Load, Load, float], float]) -> float:
        return statistics.median(value(*one) for one in rounds)

    commits_ms = middle(lambda load, bare, commits: commits)
    row: dict[str, Any] = {
        "callers": callers,
        "route": route,
        "p50_ms": round(middle(lambda load, bare, commits: load.quantile(0.5)), 2),
        "p99_ms": round(middle(lambda load, bare, commits: load.quantile(0.99)), 2),
        "per_s": round(middle(lambda load, bare, commits: load.per_s)),
        "added_p50_ms": round(middle(lambda load, bare, commits: load.quantile(0.5) - bare.quantile(0.5)), 2),
        "added_p99_ms": round(middle(lambda load, bare, commits: load.quantile(0.99) - bare.quantile(0.99)), 2),
        "commits_ms": round(commits_ms, 2),
        "commits_share": "-",
    }
    whole = row["added_p50_ms"] if route == COLD else row["p50_ms"]
    return row | {"commits_share": f"{commits_ms / whole:.0%}"} if commits_ms and whole > 0 else row
