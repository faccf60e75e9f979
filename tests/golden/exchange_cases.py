"""Golden exchanges: what each provider is sent for fixed questions, what it answers, and what is made of that.

The responses are recorded from the simulated frontier, which the vendors' own clients check (test_vendor_sdks.py).
``python tests/golden/exchange_cases.py`` writes the files anew; a change of one is a change of what goes over the wire.
"""

import asyncio
import json
import os
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import msgspec

from apprentice.config import ProviderConfig
from apprentice.remote import Price, PriceTable, Rates
from apprentice.remote.providers import PROVIDERS
from apprentice.system import SystemClock
from apprentice.testing import Fault, Frontier, Reply, SeededRandomness
from apprentice_actors.ports import Question, RemoteFailure

FOLDER = Path(__file__).parent / "exchanges"
KEY_VARIABLE, KEY = "GOLDEN_TEST_KEY", "sk-golden-0123456789"
OWN = Rates(**{name: Decimal(n) for n, name in enumerate(Rates.__struct_fields__, 2)})
SCHEMA = {
    "type": "object",
    "properties": {
        "category": {"type": "string", "enum": ["billing", "bug"]},
        "priority": {"type": "integer", "minimum": 1, "maximum": 5},
        "note": {"type": "string"},
    },
    "required": ["category", "priority"],
    "additionalProperties": False,
}
TOOL = {
    "name": "refund",
    "description": "Pay an amount back.",
    "parameters": {"type": "object", "properties": {"amount": {"type": "number"}}, "required": ["amount"]},
}
PROVIDER_CONFIGS: dict[str, dict[str, Any]] = {
    "anthropic": {"provider": "anthropic", "model": "claude-haiku-4-5"},
    "openai": {"provider": "openai", "model": "gpt-5-mini", "base_url": "/v1", "service_tier": "flex"},
    "openai_responses": {"provider": "openai", "model": "gpt-5-mini", "base_url": "/v1", "api": "responses"},
    "google": {"provider": "google", "model": "gemini-2.5-flash", "temperature": 0},
    "azure": {"provider": "azure", "model": "gpt-4.1", "deployment": "mine"},
    "azure_older": {"provider": "azure", "model": "gpt-4.1", "deployment": "mine", "api_version": "2024-10-21"},
    "openrouter": {"provider": "openrouter", "model": "meta/llama", "base_url": "/api/v1"},
    "openai_compatible": {"provider": "openai_compatible", "model": "local", "base_url": "/v1"},
}
ORIGIN = "https://provider.example"


@dataclass(frozen=True)
class Scene:
    """A question, and what the provider makes of it."""

    question: Question
    output: dict[str, Any] = field(default_factory=dict)
    fault: Fault | None = None


_ASKED = Question(
    task="classify_ticket",
    input={"text": "Charged twice {0} – naïve?"},
    description="Classify the ticket.",
    output_schema=SCHEMA,
    max_output_tokens=200,
    examples=(({"text": "It crashes"}, {"category": "bug", "priority": 2}),),
)
_OUTPUT = {"category": "billing", "priority": 2}
SCENES = {
    "answer": Scene(_ASKED, _OUTPUT),
    "image": Scene(
        msgspec.structs.replace(
            _ASKED,
            input={"text": "See", "shots": ["data:image/png;base64,iVBORw0=", "https://pictures.example/a.jpg"]},
            examples=(),
            image_fields=("shots[]",),
        ),
        _OUTPUT,
    ),
    "tools": Scene(
        Question(task="help", input={"text": "I want 2.50 back"}, tools=(TOOL,), max_output_tokens=100),
        {"tool_calls": [{"name": "refund", "arguments": {"amount": 2.5}}]},
    ),
    "refusal": Scene(_ASKED, _OUTPUT, Fault.refusal),
    "cut_off": Scene(_ASKED, _OUTPUT, Fault.max_tokens),
    "rate_limit": Scene(_ASKED, _OUTPUT, Fault.rate_limited),
    "spend_limit": Scene(_ASKED, _OUTPUT, Fault.spend_limit),
}


class Recorder(httpx.AsyncBaseTransport):
    """Keeps the last exchange."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self.inner = inner
        self.request: dict[str, Any] = {}
        self.response: dict[str, Any] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        told = {name: value.replace(KEY, "KEY") for name, value in request.headers.items()}
        kept = {name: told[name] for name in sorted(told) if name.startswith(("x-", "api-", "auth", "anthropic-"))}
        self.request = {
            "method": request.method,
            "path": request.url.raw_path.decode(),
            "headers": kept,
            "body": json.loads(request.content),
        }
        response = await self.inner.handle_async_request(request)
        await response.aread()
        headers = {name: value for name, value in response.headers.items() if name != "content-length"}
        self.response = {"status": response.status_code, "headers": headers, "body": json.loads(response.content)}
        return response


def price_of(config: ProviderConfig) -> Price:
    """The price in the table, or a fixed one."""
    own = Price(provider=config.provider, model=config.model, rates=OWN, checked="2026-11-20", source="test")
    return PriceTable.load().find(config.provider, config.model) or own


async def outcome(name: str, scene: Scene, transport: httpx.AsyncBaseTransport) -> dict[str, Any]:
    """What the model of a provider makes of a scene over ``transport``: an answer or a failure."""
    told = PROVIDER_CONFIGS[name]
    settings = {**told, "base_url": ORIGIN + told.get("base_url", ""), "api_key_env": KEY_VARIABLE, "max_attempts": 1}
    config = ProviderConfig(**settings)
    async with httpx.AsyncClient(transport=transport) as client:
        make = PROVIDERS[config.provider]
        model = make(config, price_of(config), SystemClock(), SeededRandomness(0), client=client)
        quote_nd = model.quote_nd(scene.question)
        try:
            answer = await model.answer(scene.question, timeout_s=30)
        except RemoteFailure as failure:
            usage = failure.usage and msgspec.to_builtins(failure.usage)
            return {"quote_nd": quote_nd, "failure": failure.kind, "cost_nd": failure.cost_nd, "usage": usage}
    told = msgspec.to_builtins(answer)
    return {"quote_nd": quote_nd, **{key: told[key] for key in ("output", "model", "usage", "cost_nd")}}


async def record(name: str) -> dict[str, Any]:
    """All scenes of one provider against the simulated frontier."""
    exchanges = {}
    for title, scene in SCENES.items():
        config = ProviderConfig(**{**PROVIDER_CONFIGS[name], "base_url": ORIGIN, "api_key_env": KEY_VARIABLE})
        reply = Reply(
            output=scene.output, input_tokens=120, output_tokens=40, cache_read_tokens=1_000, reasoning_tokens=10
        )
        frontier = Frontier(lambda asked, reply=reply: reply, price=price_of(config))
        if scene.fault is not None:
            frontier.fail_next(scene.fault)
        recorder = Recorder(frontier.transport())
        result = await outcome(name, scene, recorder)
        exchanges[title] = {"request": recorder.request, "response": recorder.response, "outcome": result}
    return exchanges


def main() -> None:
    """Write all files."""
    os.environ[KEY_VARIABLE] = KEY
    FOLDER.mkdir(exist_ok=True)
    for name in PROVIDER_CONFIGS:
        text = json.dumps(asyncio.run(record(name)), indent=1, sort_keys=True, ensure_ascii=False)
        (FOLDER / f"{name}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
