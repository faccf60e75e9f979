"""The task that is measured: tickets of a sentence or two, one label of five, and models that always know it."""

from pathlib import Path
from zlib import crc32

from apprentice.config import Config, loads
from apprentice.remote.anthropic import AnthropicModel
from apprentice.remote.http import HttpModel
from apprentice.remote.limits import RateLimiter
from apprentice.remote.openai_chat import ChatFormat
from apprentice.remote.pricing import PriceTable
from apprentice.remote.secrets import Secret
from apprentice.system import SystemClock, SystemRandomness
from apprentice.testing.models import ScriptedLocalModel, ScriptedTrainer
from apprentice.wiring import World, open_log
from apprentice_actors.ports import JsonObject, Question, RemoteModel
from apprentice_events.log import EventLog

MODEL = "claude-sonnet-4-5-20250929"
CHAT_MODEL = "gpt-4.1-mini"
LABELS = ("billing", "bug", "account", "shipping", "feedback")
FIRST_EXAMPLES = 20
NEVER = 10**9

_CONFIG = """
tasks:
{tasks}
remote: {{provider: {provider}, model: {model}, max_concurrent: 1000}}
local: {{fine_tune_batch_size: {never}, model_dir: {folder}/models}}
sampling: {{window_size: 40, min_floor: 0.02}}
storage: {{path: {folder}}}
"""
_TASK = """
  - name: {name}
    description: "Classify support tickets by category"
    input_schema: {{text: str}}
    output_schema: {{category: [{labels}]}}
    max_in_flight: 10000
    confidence_thresholds:
      {{phase1_to_phase2: {first}, phase2_to_phase3: 0.85, coaching_trigger: 0.7, emergency_threshold: 0.5}}
"""


def ticket(number: int) -> JsonObject:
    """The input of one request; every number gives another one."""
    return {"text": f"Order {number} has not arrived and your site shows me an error when I look at its invoice."}


def truth(given: JsonObject) -> JsonObject:
    """What both models answer."""
    return {"category": LABELS[crc32(given["text"].encode()) % len(LABELS)]}


def make_config(folder: Path, *, learns: bool, tasks: int = 1, chat: bool = False) -> Config:
    """A configuration with ``tasks`` tasks (``task-0`` …) that learn after a few examples, or stay cold for ever.

    Its remote is that of :func:`make_remote`, or with ``chat`` that of :func:`make_chat_remote`.
    """
    provider, model = ("openai", CHAT_MODEL) if chat else ("anthropic", MODEL)
    first = FIRST_EXAMPLES if learns else NEVER
    labels = ", ".join(LABELS)
    listed = "".join(_TASK.format(name=f"task-{number}", labels=labels, first=first) for number in range(tasks))
    written = _CONFIG.format(tasks=listed, provider=provider, model=model, never=NEVER, folder=folder)
    return loads(written, "the benchmark's configuration")


def make_remote(url: str) -> AnthropicModel:
    """The client of the simulated frontier."""
    clock = SystemClock()
    price = PriceTable.load().find("anthropic", MODEL)
    assert price is not None, "the model is in the price table"
    return AnthropicModel(
        MODEL,
        Secret("benchmark-key", "the benchmark"),
        price,
        limiter=RateLimiter(clock, max_concurrent=1000),
        clock=clock,
        randomness=SystemRandomness(),
        base_url=url,
    )


def make_chat_remote(url: str) -> HttpModel:
    """The same in the format that most gateways speak, Chat Completions."""
    clock = SystemClock()
    price = PriceTable.load().find("openai", CHAT_MODEL)
    assert price is not None, "the model is in the price table"
    return HttpModel(
        ChatFormat(CHAT_MODEL, Secret("benchmark-key", "the benchmark")),
        model=CHAT_MODEL,
        price=price,
        base_url=f"{url}/v1",
        max_attempts=2,
        limiter=RateLimiter(clock, max_concurrent=1000),
        clock=clock,
        randomness=SystemRandomness(),
    )


def make_world(url: str, folder: Path, log: EventLog | None = None, remote: RemoteModel | None = None) -> World:
    """Real clock, log and HTTP; a local model and a trainer that cost nothing themselves. ``remote`` instead of
    :func:`make_remote`'s."""
    clock = SystemClock()

    def known(question: Question) -> JsonObject:
        return truth(question.input)

    return World(
        clock=clock,
        log=log if log is not None else open_log(folder),
        remote=remote if remote is not None else make_remote(url),
        local=ScriptedLocalModel(known, clock, latency_s=0.0),
        trainer=ScriptedTrainer(clock, ("perfect",), seconds=0.0),
    )
