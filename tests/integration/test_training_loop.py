"""The whole loop with nothing simulated but the teacher: a real vLLM, real LoRA training on two processes, real swaps.

A tiny base model answers by another rule than the teacher. What the teacher answered trains version 1, which becomes
champion; version 2 replaces it while requests come in; version 3 was taught wrong answers and is rejected on the
held-out rows; version 4 was taught wrong answers to a kind of ticket that the held-out rows do not have, so it passes,
takes over, fails on live traffic, and is rolled back.
"""

import asyncio
import contextlib
import itertools
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from apprentice import Runtime
from apprentice.config import Config, TrainingConfig, loads
from apprentice.testing import Frontier
from apprentice_actors.policy.holdout import held_out
from apprentice_actors.ports import JsonObject
from apprentice_events import vocabulary as v
from tests import real_servers, tiny_llama

pytestmark = pytest.mark.heavy

TASK = tiny_llama.TASK
KEY = "TEACHER_KEY"
HOLDOUT = 0.25
FIRST = 240
"""Examples behind version 1."""
KIND_B = {*tiny_llama.TOPICS["account"]}
CALLERS = 3
COMPARED = 200
"""Answers before and after a swap whose latencies are compared."""
SLOWER_S = 1.0
"""A swap that makes callers wait for a server or a load takes many seconds; what it takes is measured in benchmarks."""
PATIENCE_S = 600.0


def configuration(folder: Path, frontier: Frontier) -> Config:
    settings = msgspec.json.encode(
        {
            "tasks": [
                {
                    "name": TASK,
                    "description": tiny_llama.DESCRIPTION,
                    "input_schema": {"text": "str"},
                    "output_schema": tiny_llama.NOTATION,
                    "guarantee": {"agreement": 0.8},
                    "confidence_thresholds": {
                        "phase1_to_phase2": FIRST,
                        "phase2_to_phase3": 0.75,
                        "coaching_trigger": 0.5,
                        "emergency_threshold": 0.3,
                    },
                    "holdout_share": HOLDOUT,
                    "max_output_tokens": 64,
                }
            ],
            "remote": {
                "provider": "openai_compatible",
                "model": "teacher",
                "base_url": f"{frontier.url}/v1",
                "price": {"input": 1, "output": 5},
                "api_key_env": KEY,
                "distillation": "allowed",
            },
            "storage": {"path": str(folder / "log")},
            "sampling": {"min_floor": 0.2},
        }
    ).decode()
    training = TrainingConfig(
        rank=16,
        learning_rate=0.005,
        epochs=20,
        max_steps=120,
        batch_size=4,
        max_length=512,
        gradient_checkpointing=False,
        processes=2,
        early_stopping=0,
        dropout=0.0,
    )
    local = real_servers.vllm_config(folder / "models", managed=True, slots=3)
    local = local.model_copy(update={"training": training, "fine_tune_batch_size": 100_000})
    return loads(settings, "the test's own configuration").model_copy(update={"local": local})


def kind_b(asked: JsonObject) -> bool:
    return bool({*asked["text"].split()} & KIND_B)


def tickets(seed: int, wanted: Callable[[JsonObject], bool]) -> Iterator[JsonObject]:
    """Different tickets without end. Those of kind B never belong to the held-out rows."""
    chance, seen = random.Random(seed), set()
    while True:
        asked = tiny_llama.ticket(chance)
        allowed = not kind_b(asked) or not held_out(asked, HOLDOUT)
        if asked["text"] not in seen and allowed and wanted(asked):
            seen.add(asked["text"])
            yield asked


def any_kind(asked: JsonObject) -> bool:
    return True


def kind_a(asked: JsonObject) -> bool:
    return not kind_b(asked)


class Loop:
    """A runtime under test and all that callers saw of it."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.failures: list[str] = []
        self.seen: list[tuple[float, float]] = []
        """When each request was answered, and how long it took, in seconds."""
        self.asked: list[tuple[str, JsonObject]] = []
        self._more = asyncio.Condition()

    async def submit(self, given: JsonObject) -> None:
        begun = time.monotonic()
        try:
            result = await self.runtime.submit(TASK, given)
        except Exception as error:
            self.failures.append(repr(error))
            return
        self.seen.append((time.monotonic(), time.monotonic() - begun))
        self.asked.append((result.request_id, given))
        async with self._more:
            self._more.notify_all()

    async def play(self, given: Iterator[JsonObject], *, callers: int = CALLERS) -> None:
        """Submit everything, so many at once."""

        async def caller() -> None:
            for one in given:
                await self.submit(one)

        await asyncio.gather(*(caller() for _ in range(callers)))

    @contextlib.asynccontextmanager
    async def under_load(self, wanted: Callable[[JsonObject], bool]) -> AsyncIterator[None]:
        """Callers ask one request after the other for as long as the block lasts."""
        over = asyncio.Event()
        source = tickets(len(self.asked), wanted)
        load = asyncio.create_task(self.play(itertools.takewhile(lambda _: not over.is_set(), source)))
        try:
            yield
        finally:
            over.set()
            await load

    async def until(self, kind: type[v.Event], version: str) -> float:
        """Wait, under load, for an event about a version; returns when it was seen."""
        async with asyncio.timeout(PATIENCE_S):
            while not await self.events(kind, version):
                await self.more(1)
        return time.monotonic()

    async def more(self, answers: int) -> None:
        """Wait for so many more answers."""
        enough = len(self.seen) + answers
        async with asyncio.timeout(PATIENCE_S), self._more:
            await self._more.wait_for(lambda: len(self.seen) >= enough)

    async def events(self, kind: type[v.Event], version: str) -> list[Any]:
        found = [record.event() async for record in self.runtime.records(tags=[kind.TAG])]
        return [event for event in found if getattr(event, "version", None) == version]

    async def one(self, kind: type[v.Event], version: str) -> Any:
        """The only event of a kind about a version."""
        (event,) = await self.events(kind, version)
        return event

    async def teach(self, wanted: Callable[[JsonObject], bool], rule: int) -> int:
        """Correct every answer of a kind that is trained on, by a rule; returns how many there were."""
        chosen = [(request, asked) for request, asked in self.asked if wanted(asked) and not held_out(asked, HOLDOUT)]
        for request, asked in chosen:
            await self.runtime.correct(request, tiny_llama.answer(asked, rule))
        return len(chosen)

    def p99(self, answers: list[tuple[float, float]]) -> float:
        """99th percentile of latencies, in seconds."""
        found = sorted(took for _, took in answers)
        return found[min(len(found) - 1, int(0.99 * len(found)))]

    def champion(self) -> str | None:
        return self.runtime.status(TASK).champion


async def first_version(loop: Loop) -> None:
    """The teacher answers everything; version 1 is trained on it and beats the untrained base."""
    await loop.play(itertools.islice(tickets(1, any_kind), FIRST + 40))
    assert loop.failures == []
    await loop.runtime.settled()
    trained = await loop.one(v.AdapterTrained, f"{TASK}@v1")
    validated = await loop.one(v.AdapterValidated, f"{TASK}@v1")
    assert trained.examples > 150
    assert validated.score >= 0.9, validated
    assert validated.incumbent_score is not None, "the untrained base answered the same rows"
    assert validated.incumbent_score < 0.3
    assert loop.champion() == f"{TASK}@v1"


async def graduation(loop: Loop) -> None:
    """Compared in the shadow until certified; then the local model answers. The shadows may come after the callers."""
    await loop.play(itertools.islice(tickets(2, any_kind), 260))
    await loop.runtime.settled()
    status = loop.runtime.status(TASK)
    assert status.phase == "steady_state", status
    await loop.play(itertools.islice(tickets(3, any_kind), 40))
    assert loop.runtime.status(TASK).served_local > 0


async def swap_under_load(loop: Loop) -> None:
    """Version 2 is trained and replaces version 1 while callers ask. Nobody fails, nobody waits."""
    async with loop.under_load(any_kind):
        await loop.runtime.operate(TASK, "train")
        await loop.until(v.AdapterLoaded, f"{TASK}@v2")
        await loop.more(COMPARED)
        promoted = await loop.until(v.AdapterPromoted, f"{TASK}@v2")
        await loop.more(COMPARED)
    assert loop.failures == []
    assert loop.champion() == f"{TASK}@v2"
    before, after = ([one for one in loop.seen if (one[0] > promoted) is late] for late in (False, True))
    assert loop.p99(after[:COMPARED]) <= loop.p99(before[-COMPARED:]) + SLOWER_S


async def poisoned(loop: Loop) -> None:
    """Wrong corrections of everything that is trained on: the held-out rows tell."""
    assert await loop.teach(any_kind, rule=2) > 100
    await loop.runtime.operate(TASK, "train")
    await loop.runtime.settled()
    assert await loop.one(v.AdapterRejected, f"{TASK}@v3")
    assert loop.champion() == f"{TASK}@v2"
    await loop.teach(any_kind, rule=1)


async def bad_on_live_traffic(loop: Loop) -> None:
    """Wrong corrections of a kind that no held-out row has: it passes, takes over, fails and is rolled back."""
    assert await loop.teach(kind_b, rule=2) > 50
    async with loop.under_load(kind_a):
        await loop.runtime.operate(TASK, "train")
        await loop.until(v.AdapterPromoted, f"{TASK}@v4")
    async with loop.under_load(kind_b):
        await loop.until(v.AdapterRolledBack, f"{TASK}@v4")
    back = await loop.one(v.AdapterRolledBack, f"{TASK}@v4")
    assert back.to == f"{TASK}@v2"
    assert loop.champion() == f"{TASK}@v2"


async def test_versions_are_trained_served_swapped_rejected_and_rolled_back(tmp_path, monkeypatch):
    monkeypatch.setenv(KEY, "a-key-for-the-simulated-teacher")
    async with (
        Frontier(answer=tiny_llama.answer) as frontier,
        Runtime.open(configuration(tmp_path, frontier)) as runtime,
    ):
        loop = Loop(runtime)
        for step in (first_version, graduation, swap_under_load, poisoned, bad_on_live_traffic):
            await step(loop)
            assert loop.failures == [], step.__name__
