"""A simulated provider and a model that asks it, for the contract suites of the remote side."""

import asyncio
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import httpx

from apprentice.config import ProviderConfig
from apprentice.remote import Price, PriceTable, RateLimiter, Rates
from apprentice.remote.providers import PROVIDERS
from apprentice.testing import Frontier, SeededRandomness
from apprentice_actors.ports import Question, RemoteModel

KEY = "sk-contract-0123456789"
KEY_VARIABLE = "CONTRACT_TEST_KEY"
TABLE = PriceTable.load()
OWN_PRICE = Rates(**{name: Decimal(n) for n, name in enumerate(Rates.__struct_fields__, 2)})


@dataclass(frozen=True)
class Case:
    """A provider of the configuration, and what its format can and cannot tell."""

    name: str
    provider: str
    model: str
    path: str = ""
    """The path of the base URL."""
    options: dict[str, Any] = field(default_factory=dict)
    in_memory: bool = False
    tells_limits: bool = True
    tells_writes: bool = True
    tells_retention: bool = False

    @property
    def price(self) -> Price:
        found = TABLE.find(self.provider, self.model)
        return found or Price(
            provider=self.provider, model=self.model, rates=OWN_PRICE, checked="2026-11-20", source="test"
        )


CLAUDE = "claude-haiku-4-5-20251001"
CASES = [
    Case("anthropic", "anthropic", CLAUDE, tells_retention=True),
    Case("memory", "anthropic", CLAUDE, in_memory=True, tells_retention=True),
    Case("openai", "openai", "gpt-5-mini", "/v1"),
    Case("responses", "openai", "gpt-5-mini", "/v1", {"api": "responses"}, tells_retention=True),
    Case("google", "google", "gemini-2.5-flash", tells_limits=False, tells_writes=False),
    Case("azure", "azure", "gpt-4.1", options={"deployment": "mine"}),
    Case("azure-path", "azure", "gpt-4.1", "/openai/v1/"),
    Case("azure-older", "azure", "gpt-4.1", options={"deployment": "mine", "api_version": "2024-10-21"}),
    Case("azure-responses", "azure", "gpt-4.1", options={"api": "responses"}, tells_retention=True),
    Case("openrouter", "openrouter", "meta/llama", "/api/v1"),
    Case("compatible", "openai_compatible", "my-model", "/v1/"),
]
SCHEMA = {
    "type": "object",
    "properties": {
        "category": {"type": "string", "enum": ["billing", "bug"]},
        "priority": {"type": "integer", "minimum": 1, "maximum": 5},
    },
    "required": ["category", "priority"],
}
OUTPUT = {"category": "billing", "priority": 2}


def question(text: str = "I was charged twice") -> Question:
    return Question(
        task="classify",
        input={"text": text},
        description="Classify the ticket.",
        output_schema=SCHEMA,
        max_output_tokens=200,
    )


@dataclass
class JumpingClock:
    """Sleeping takes no time but moves the clock; those who sleep together wake together."""

    seconds: float = 1_000.0
    slept: list[float] = field(default_factory=list)

    def now_ns(self) -> int:
        return int((1_767_225_600 + self.seconds) * 1e9)

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        wake = self.seconds + seconds
        await asyncio.sleep(0)
        self.seconds = max(self.seconds, wake)


@dataclass
class Rig:
    model: RemoteModel
    frontier: Frontier
    clock: JumpingClock
    limiter: RateLimiter


def build(case: Case, url: str, clock: JumpingClock, limiter: RateLimiter, client: httpx.AsyncClient) -> RemoteModel:
    config = ProviderConfig(
        provider=case.provider,
        model=case.model,
        base_url=url + case.path,
        api_key_env=KEY_VARIABLE,
        max_attempts=4,
        **case.options,
    )
    make = PROVIDERS[case.provider]
    return make(config, case.price, clock, SeededRandomness(1), limiter=limiter, client=client)
