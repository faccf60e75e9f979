"""What callers notice when one version takes the place of another on a real server.

Callers ask in a closed loop through the desk that the runtime uses. Every few seconds the next version is loaded, the
callers are switched over, the old version is drained and unloaded. A tiny base model and its adapters are made on the
spot; whether an answer follows the rule of the version that was asked shows that no one was served by other weights.
"""

import asyncio
import statistics
import tempfile
import time
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import msgspec

from apprentice.backends import make_local
from apprentice.config import LocalConfig
from apprentice.system import SystemClock
from apprentice_actors.actor import ActorRef
from apprentice_actors.local import Answer, Drop, Load, LocalDesk, LocalMessage
from apprentice_actors.ports import LocalAnswer, LocalFailure, Question
from apprentice_actors.supervision import Supervisor
from benchmarks.measuring import Row
from tests import real_servers, tiny_adapters, tiny_llama

type Backend = Literal["vllm", "llama_cpp"]

BACKENDS: tuple[Backend, ...] = ("vllm", "llama_cpp")
CALLERS = 16
RULES = (1, 2, 3)
WINDOW_S = 2.0
"""How much before and after a swap is compared."""
AROUND_S = 0.75
"""Half of the time around a switch in which the longest silence is looked for."""
ANSWER_S = 120.0
LOAD_S = 600.0


class Seen(msgspec.Struct, frozen=True):
    """One request as its caller saw it. Times in seconds on one clock."""

    begun: float
    ended: float
    failed: str = ""
    right: bool = False
    """Whether the answer follows the rule of the version that was asked."""


class Swap(msgspec.Struct, frozen=True):
    """When the next version began to load, and when callers were switched to it."""

    begun: float
    switched: float


class Swaps(msgspec.Struct, frozen=True):
    """A whole run."""

    requests: Sequence[Seen]
    swaps: Sequence[Swap]

    @property
    def errors(self) -> list[str]:
        """What went wrong for callers."""
        return [each.failed for each in self.requests if each.failed]

    def row(self, backend: str) -> Row:
        """Medians over the swaps."""
        switches = [swap.switched for swap in self.swaps]
        return {
            "backend": backend,
            "swaps": len(self.swaps),
            "requests": len(self.requests),
            "errors": len(self.errors),
            "right": f"{sum(each.right for each in self.requests) / len(self.requests):.1%}",
            "load_ms": _ms(swap.switched - swap.begun for swap in self.swaps),
            "silence_at_switch_ms": _ms(self._silence(at) for at in switches),
            "usual_silence_ms": _ms(self._silence(swap.begun - AROUND_S) for swap in self.swaps),
            "p99_before_ms": _ms(self._p99(swap.begun - WINDOW_S, swap.begun) for swap in self.swaps),
            "p99_loading_ms": _ms(self._p99(swap.begun, swap.switched) for swap in self.swaps),
            "p99_after_ms": _ms(self._p99(at, at + WINDOW_S) for at in switches),
        }

    def _silence(self, at: float) -> float:
        """The longest time without an answer to anybody around ``at``, in seconds."""
        ended = [each.ended for each in self.requests if abs(each.ended - at) <= AROUND_S]
        marks = [at - AROUND_S, *sorted(ended), at + AROUND_S]
        return max(late - early for early, late in pairwise(marks))

    def _p99(self, start: float, end: float) -> float:
        """Of requests that ended in a time, in seconds; of the nearest ones where it was short."""
        taken = sorted(each.ended - each.begun for each in self.requests if start <= each.ended <= end)
        if not taken:
            nearest = min(self.requests, key=lambda each: abs(each.ended - end))
            taken = [nearest.ended - nearest.begun]
        return taken[min(int(0.99 * len(taken)), len(taken) - 1)]


class _Run:
    """Callers, the version that they ask, and what they saw."""

    def __init__(self, desk: ActorRef[LocalMessage], folder: Path, base: str) -> None:
        self._desk = desk
        self._folder = folder
        self._base = base
        self._current = ""
        self._over = False
        self.requests: list[Seen] = []
        self.swaps: list[Swap] = []

    async def run(self, swaps: int, callers: int, every_s: float) -> Swaps:
        await self._load(1)
        self._current = _name(1)
        async with asyncio.TaskGroup() as group:
            for number in range(callers):
                group.create_task(self._caller(number))
            await asyncio.sleep(every_s)
            for number in range(2, swaps + 2):
                await self._swap(number)
                await asyncio.sleep(every_s)
            self._over = True
        return Swaps(self.requests, self.swaps)

    async def _swap(self, number: int) -> None:
        begun = time.perf_counter()
        await self._load(number)
        old, self._current = self._current, _name(number)
        self.swaps.append(Swap(begun, time.perf_counter()))
        self._desk.tell(Drop(version=old))

    async def _load(self, number: int) -> None:
        version, folder = _name(number), self._folder / tiny_llama.TASK / f"v{number}"
        source = tiny_adapters.adapter(tiny_adapters.tickets(_rule(number)))
        digest = tiny_adapters.write(folder, version, source, base=self._base)
        await self._desk.ask(
            lambda reply: Load(version=version, folder=folder, manifest_sha256=digest, reply=reply), LOAD_S
        )

    async def _caller(self, number: int) -> None:
        rows = tiny_llama.examples(200, seed=number)
        turn = 0
        while not self._over:
            asked, version = rows[turn % len(rows)].input, self._current
            turn += 1
            question = msgspec.structs.replace(tiny_llama.question(asked), max_output_tokens=64)
            begun = time.perf_counter()
            try:
                answer = await self._ask(question, version)
            except (LocalFailure, TimeoutError) as error:
                self.requests.append(Seen(begun, time.perf_counter(), failed=f"{version}: {error!r}"))
                continue
            right = answer.output == tiny_llama.answer(asked, _rule(int(version.rpartition("v")[2])))
            self.requests.append(Seen(begun, time.perf_counter(), right=right))

    async def _ask(self, question: Question, version: str) -> LocalAnswer:
        return await self._desk.ask(lambda reply: Answer(question=question, version=version, reply=reply), ANSWER_S)


async def measure(local: LocalConfig, *, swaps: int, callers: int = CALLERS, every_s: float = 6.0) -> Swaps:
    """Let callers ask a server while ``swaps`` versions take over from each other."""
    assert local.base_model is not None, "these servers have a base model"
    for rule in RULES:
        tiny_adapters.adapter(tiny_adapters.tickets(rule))  # made before anything is measured
    model = make_local(local)
    try:
        async with Supervisor(SystemClock()) as scope:
            desk = scope.start("local", lambda ref: LocalDesk(ref, model=model))
            return await _Run(desk, local.model_dir, local.base_model).run(swaps, callers, every_s)
    finally:
        await model.aclose()


async def run_swap(backends: Sequence[Backend], *, quick: bool = False) -> dict[str, Any]:
    """All of it for some servers; they are started, measured and stopped one after the other."""
    rows = []
    for backend in backends:
        with tempfile.TemporaryDirectory() as name:
            found = await measure(_config(backend, Path(name)), swaps=3 if quick else 10)
        rows.append({**found.row(backend), **({"first_error": found.errors[0]} if found.errors else {})})
    return {"callers": CALLERS, "rows": rows}


def _config(backend: Backend, folder: Path) -> LocalConfig:
    if backend == "vllm":
        return real_servers.vllm_config(folder, managed=True, slots=2)
    return real_servers.llama_config(folder, slots=2)


def _name(number: int) -> str:
    return f"{tiny_llama.TASK}@v{number}"


def _rule(number: int) -> int:
    return RULES[number % len(RULES)]


def _ms(seconds: Iterable[float]) -> float:
    return round(1000.0 * statistics.median([*seconds]), 1)
