"""A simulated provider that fine-tunes, and trainers of it."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import msgspec

from apprentice.config import LocalConfig
from apprentice.testing import Frontier, Reply
from apprentice.training.hosted import HostedTrainer
from apprentice_actors.ports import Example, TrainingJob

BASE = "gpt-4.1-nano-2025-04-14"
KEY = "sk-hosted-0123456789"
SCHEMA = {
    "type": "object",
    "properties": {"label": {"enum": ["a", "b"]}, "note": {"type": "string"}},
    "required": ["label"],
    "additionalProperties": False,
}


class QuickClock:
    """Sleeping takes no time but moves the clock."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now_ns(self) -> int:
        return int((1_767_225_600 + self.seconds) * 1e9)

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)
        self.seconds += seconds


class Rig:
    """A frontier and trainers of it; a second trainer is what a restart brings."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.clock = QuickClock()
        self.answer: Any = lambda asked: Reply(output=truth(asked), logprob=-0.01)
        self.frontier = Frontier(lambda asked: self.answer(asked), clock=self.clock, tuning_s=600.0, api_key=KEY)
        self.said: list[tuple[float, str]] = []

    def local(self, **training: Any) -> LocalConfig:
        return LocalConfig(
            backend="openai",
            fine_tune_backend="openai",
            base_model=BASE,
            server={"url": "http://frontier.invalid/v1", "api_key_env": "HOSTED_KEY"},
            training={"token_price": "1.5", **training},
        )

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=self.frontier.transport())

    def trainer(self, **training: Any) -> HostedTrainer:
        return HostedTrainer(self.local(**training), clock=self.clock, client=self.client())

    def job(self, number: int = 1, *, train: int = 40, **more: Any) -> TrainingJob:
        for name, content in (("train", rows(train)), ("held-out", rows(10, 40))):
            (self.home / f"{name}.jsonl").write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in content))
        fields: dict[str, Any] = {
            "job": f"job-{number}",
            "task": "tickets",
            "version": f"tickets@v{number}",
            "parent": None,
            "parent_folder": None,
            "folder": str(self.folder(number)),
            "train_file": str(self.home / "train.jsonl"),
            "calibration_file": str(self.home / "held-out.jsonl"),
            "output_schema": SCHEMA,
            "match_fields": ("label",),
            "seed": number,
            "description": "Label the ticket.",
        }
        return TrainingJob(**{**fields, **more})

    def folder(self, number: int) -> Path:
        return self.home / "tickets" / f"v{number}"

    @property
    def left(self) -> list[str]:
        home = self.home / "tickets"
        return sorted(path.name for path in home.iterdir()) if home.exists() else []

    @property
    def jobs(self) -> list[Any]:
        return list(self.frontier.tuning.jobs.values())

    def tell(self, fraction: float, message: str) -> None:
        self.said.append((fraction, message))

    async def until(self, condition: Any) -> None:
        for _ in range(10_000):
            if condition():
                return
            await asyncio.sleep(0)
        raise AssertionError("it never came to that")


def truth(asked: dict[str, Any]) -> dict[str, Any]:
    return {"label": "ab"[int(str(asked["text"]).rpartition(" ")[2]) % 2]}


def rows(count: int, first: int = 0) -> list[Example]:
    asked = [{"text": f"ticket {at}"} for at in range(first, first + count)]
    return [Example(request=f"r{at}", input=each, output=truth(each)) for at, each in enumerate(asked, first)]
