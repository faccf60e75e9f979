"""What the runtime adds to a call as a gateway, beside LiteLLM's Router and the bare HTTP client.

All ask the same simulated frontier, a process of its own, for the same Chat Completion: the bare client posts the bytes
that the runtime would send, over one httpx client, and spread over several as the runtime does it; the Router is given
the same messages, schema and output limit. "Added" is measured from the spread one: a single client breaks down under
many calls at once, and whatever is compared with it looks good. The runtime logs
durably (two commits per call: intent, outcome), checks input and answer and keeps the purse; the Router runs with its
defaults, which log nothing durably. The routes stay open and take turns, so that a busy moment hits all of them.
"""

import gc
import os
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec

from apprentice.config import Config
from apprentice.errors import MissingExtra
from apprentice.remote.clients import ClientPool
from apprentice.remote.openai_chat import ChatFormat
from apprentice.remote.secrets import Secret
from apprentice.runtime import Runtime
from apprentice.wiring import task_spec
from apprentice_actors.ports import Question
from benchmarks.frontier_process import frontier
from benchmarks.latency_bench import CALLERS, TASK, Act, timed_log
from benchmarks.log_bench import fdatasync_us
from benchmarks.measuring import Load, Row, closed_loop
from benchmarks.task import CHAT_MODEL, make_chat_remote, make_config, make_world, ticket

KEY = "benchmark-key"
ONE, BARE, OURS, OTHER = "one httpx client", "httpx, spread", "apprentice", "litellm router"
FRONTIER_S = 0.1
"""Short for a frontier model, so that waiting does not hide what is added and a run ends in minutes."""
ROUNDS = 5
WARM_UP = 10
"""Requests per caller before anything is measured."""
LOOPBACK = ("127.0.0.1", "::1", "localhost", b"127.0.0.1", b"::1", b"localhost", None)


class Routes(msgspec.Struct, frozen=True):
    """What is measured, by name, and where the runtime's commit times gather (milliseconds)."""

    acts: Mapping[str, Act]
    commits_ms: list[float]


def stay_on_this_machine() -> None:
    """Refuse every connection but to loopback, for the rest of the process, and tell LiteLLM to use what it brings."""
    for name in ("MODEL_COST_MAP", "ANTHROPIC_BETA_HEADERS", "BLOG_POSTS", "POLICY_TEMPLATES", "AUTOROUTER_PRESETS"):
        os.environ[f"LITELLM_LOCAL_{name}"] = "True"
    os.environ["HF_HUB_OFFLINE"] = "1"

    def guard(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "socket.getaddrinfo":
            host = arguments[0]
        elif event == "socket.connect" and isinstance(arguments[1], tuple):
            host = arguments[1][0]
        else:
            return
        if host not in LOOPBACK:
            raise PermissionError(f"the benchmark stays on this machine, and something in it looked for {host!r}")

    sys.addaudithook(guard)


@asynccontextmanager
async def bare_route(url: str, folder: Path, clients: ClientPool | None = None) -> AsyncIterator[Act]:
    """The call by itself, over one client or spread over several: the bytes that the runtime's own format writes."""
    config, wire = make_config(folder, learns=False, chat=True), ChatFormat(CHAT_MODEL, Secret(KEY, "the benchmark"))
    async with httpx.AsyncClient(limits=httpx.Limits(max_connections=None), timeout=60.0) as one:
        pool = clients or ClientPool(one)

        async def ask(number: int) -> None:
            body = wire.encode(_question(config, number))
            with pool.lend() as client:
                response = await client.post(f"{url}/v1{wire.path}", content=body, headers=wire.headers())
            response.raise_for_status().json()

        yield ask


@asynccontextmanager
async def spread_route(url: str, folder: Path) -> AsyncIterator[Act]:
    """The bare call over as many clients as the runtime would use: what "added" is measured from."""
    pool = ClientPool()
    try:
        async with bare_route(url, folder, pool) as ask:
            yield ask
    finally:
        await pool.aclose()


def _question(config: Config, number: int) -> Question:
    spec = task_spec(config, config.tasks[0])
    return Question(
        task=TASK,
        input=ticket(number),
        description=spec.description,
        output_schema=spec.output_schema,
        max_output_tokens=spec.max_output_tokens,
    )


@asynccontextmanager
async def apprentice_route(url: str, folder: Path) -> AsyncIterator[tuple[Act, list[float]]]:
    """Through the runtime on a log of its own; with it the list that its commit times are added to."""
    log = timed_log(folder)
    world = make_world(url, folder, log, remote=make_chat_remote(url))
    async with Runtime.open(make_config(folder, learns=False, chat=True), world=world) as runtime:

        async def ask(number: int) -> None:
            await runtime.submit(TASK, ticket(number))

        yield ask, log.taken_ms


@asynccontextmanager
async def litellm_route(url: str, folder: Path) -> AsyncIterator[Act]:
    """Through LiteLLM's Router with its defaults. Raises :class:`MissingExtra`."""
    try:
        import litellm
        from litellm import Router
    except ImportError as error:
        raise MissingExtra(
            "LiteLLM is not installed; in an environment of its own: pip install -e '.[bench]'"
        ) from error
    litellm.telemetry = False
    deployment = {"model": f"openai/{CHAT_MODEL}", "api_base": f"{url}/v1", "api_key": KEY}
    router = Router(model_list=[{"model_name": "teacher", "litellm_params": deployment}])
    config, wire = make_config(folder, learns=False, chat=True), ChatFormat(CHAT_MODEL, Secret(KEY, "the benchmark"))

    async def ask(number: int) -> None:
        body = msgspec.json.decode(wire.encode(_question(config, number)))
        del body["model"]
        await router.acompletion(model="teacher", **body)

    yield ask


@asynccontextmanager
async def open_routes(url: str, folder: Path, others: Sequence[str] = (ONE, BARE, OTHER)) -> AsyncIterator[Routes]:
    """The runtime and the named others, before the frontier at ``url``."""
    made = {ONE: bare_route, BARE: spread_route, OTHER: litellm_route}
    async with AsyncExitStack() as stack:
        acts = {name: await stack.enter_async_context(made[name](url, folder)) for name in others}
        acts[OURS], commits_ms = await stack.enter_async_context(apprentice_route(url, folder / "log"))
        yield Routes(acts, commits_ms)


async def run_gateway(*, quick: bool = False, folder: Path | None = None) -> dict[str, Any]:
    """All routes at 1, 16 and 64 callers, before a frontier of 100 ms and before one that answers at once.

    ``added`` is the difference to the spread bare clients of the same round; all figures are medians over the rounds.
    """
    rows: list[Row] = []
    rounds = 2 if quick else ROUNDS
    with tempfile.TemporaryDirectory(dir=folder or Path.cwd()) as name:
        here = Path(name)
        sync_us = fdatasync_us(here)
        for latency_s in (FRONTIER_S, 0.0):
            with frontier(latency_s) as url:
                for callers in CALLERS:
                    async with open_routes(url, here / f"{latency_s}-{callers}") as routes:
                        requests = _requests(callers, latency_s, quick)
                        compared = await _compare(routes, callers, requests, rounds)
                    rows += [{"frontier_ms": round(latency_s * 1e3), **row} for row in compared]
    return {"fdatasync_us": round(sync_us, 1), "rows": rows}


def _requests(callers: int, latency_s: float, quick: bool) -> int:
    """Of one route in one round: enough for a p99 to be more than the slowest one."""
    full = max(400, 20 * callers) if not latency_s else max(100, 15 * callers)
    return max(full // 5, 2 * callers) if quick else full


async def _compare(routes: Routes, callers: int, requests: int, rounds: int) -> list[Row]:
    for act in routes.acts.values():
        await closed_loop(act, callers=callers, requests=WARM_UP * callers)
    gc.collect()
    gc.freeze()  # what one route has imported is not to be walked by the garbage collector while another is measured
    routes.commits_ms.clear()
    seen: list[dict[str, Load]] = []
    first = WARM_UP * callers
    names = list(routes.acts)
    for _ in range(rounds):
        names = names[1:] + names[:1]
        loads = {}
        for name in names:
            loads[name] = await closed_loop(routes.acts[name], callers=callers, requests=requests, first=first)
        seen.append(loads)
        first += requests
    gc.unfreeze()
    commits = Load(latencies_ms=sorted(routes.commits_ms), seconds=1.0)
    return [_row(callers, name, seen, commits if name == OURS else None) for name in (ONE, BARE, OURS, OTHER)]


def _row(callers: int, name: str, seen: Sequence[Mapping[str, Load]], commits: Load | None) -> Row:
    def added(share: float, of: str) -> float:
        return statistics.median(one[of].quantile(share) - one[BARE].quantile(share) for one in seen)

    def middle(share: float) -> float:
        return statistics.median(one[name].quantile(share) for one in seen)

    other_p99 = added(0.99, OTHER)
    return {
        "callers": callers,
        "route": name,
        "p50_ms": round(middle(0.5), 2),
        "p99_ms": round(middle(0.99), 2),
        "per_s": round(statistics.median(one[name].per_s for one in seen)),
        "added_p50_ms": round(added(0.5, name), 2),
        "added_p99_ms": round(added(0.99, name), 2),
        "of_litellms_p99": round(added(0.99, name) / other_p99, 2) if other_p99 > 0 else "-",
        "two_commits_ms": round(2 * commits.quantile(0.5), 2) if commits is not None else "-",
        "commit_p99_ms": round(commits.quantile(0.99), 2) if commits is not None else "-",
    }
