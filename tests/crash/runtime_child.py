"""The child of the kill tests: a runtime under load against a frontier in the parent process.

``runtime_child.py FOLDER URL SEED LIFE``: says ``open``, then a line ``KEY OUTPUT-JSON`` for every acknowledged answer,
each in one ``write``, so that a kill cannot tear it. Keys are ``LIFE-NUMBER``.
"""

import asyncio
import json
import os
import random
import sys
from pathlib import Path

from apprentice.config import loads
from apprentice.errors import ApprenticeError
from apprentice.remote.anthropic import AnthropicModel
from apprentice.remote.limits import RateLimiter
from apprentice.remote.pricing import PriceTable
from apprentice.remote.secrets import Secret
from apprentice.runtime import Runtime
from apprentice.system import SystemClock, SystemRandomness
from apprentice.testing.models import ScriptedLocalModel, ScriptedTrainer
from apprentice.testing.world import MODELS, PROVIDER, truth
from apprentice.wiring import World, open_log

CONFIG = """
tasks:
  - name: sort
    description: Sort a ticket
    input_schema: {text: str}
    output_schema: {category: [billing, bug, account, other]}
    confidence_thresholds: {phase1_to_phase2: 20}
remote: {provider: anthropic, model: MODEL}
"""


def world(folder: Path, url: str) -> World:
    """The real log, the simulated models, real time."""
    clock, randomness = SystemClock(), SystemRandomness()
    price = PriceTable.load().find(PROVIDER, MODELS[0])
    assert price is not None
    remote = AnthropicModel(
        MODELS[0],
        Secret("sk-simulated"),
        price,
        limiter=RateLimiter(clock),
        clock=clock,
        randomness=randomness,
        base_url=url,
    )
    return World(
        log=open_log(folder / "log"),
        remote=remote,
        local=ScriptedLocalModel(lambda question: truth(question.input), clock),
        trainer=ScriptedTrainer(clock, ["perfect"], seconds=0.01),
    )


def config(folder: Path):
    """The configuration, with versions kept under ``folder``."""
    loaded = loads(CONFIG.replace("MODEL", MODELS[0]))
    return loaded.model_copy(update={"local": loaded.local.model_copy(update={"model_dir": folder / "models"})})


async def ask(runtime: Runtime, life: str, numbers) -> None:
    for number in numbers:
        key = f"{life}-{number}"
        try:
            result = await runtime.submit("sort", {"text": key}, key=key)
        except ApprenticeError as error:
            os.write(2, f"{key} {error}\n".encode())
        else:
            os.write(1, f"{key} {json.dumps(result.output)}\n".encode())


async def main() -> None:
    folder, url, seed, life = Path(sys.argv[1]), *sys.argv[2:]
    async with Runtime.open(config(folder), world=world(folder, url)) as runtime:
        os.write(1, b"open\n")
        numbers = iter(range(10**9))
        callers = random.Random(seed).choice([1, 8, 32])
        await asyncio.gather(*(ask(runtime, life, numbers) for _ in range(callers)))


if __name__ == "__main__":
    asyncio.run(main())
