"""A process under load is killed without warning: answers, money and keys hold."""

import asyncio
import json
import random
import sys
from pathlib import Path

import pytest
from runtime_child import config, world

from apprentice.remote.pricing import PriceTable
from apprentice.runtime import Runtime
from apprentice.testing.frontier import Frontier
from apprentice.testing.world import MODELS, PROVIDER, truth
from apprentice_events import replay
from apprentice_events import vocabulary as v
from apprentice_events.sqlite import scan_file

CHILD = Path(__file__).with_name("runtime_child.py")

type Answers = dict[str, dict[str, str]]


async def run_and_kill(folder: Path, frontier: Frontier, seed: int, life: int, answers: int) -> Answers:
    """Kill the child after it acknowledged so many answers; everything it managed to say counts."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, str(CHILD), str(folder), frontier.url, str(seed), str(life), stdout=asyncio.subprocess.PIPE
    )
    assert child.stdout is not None
    lines = [await child.stdout.readline() for _ in range(1 + answers)]
    child.kill()
    lines += (await child.stdout.read()).splitlines(keepends=True)
    await child.wait()
    assert lines[0] == b"open\n"
    pairs = [line.decode().split(" ", 1) for line in lines[1:] if line.endswith(b"\n")]
    return {key: json.loads(output) for key, output in pairs}


async def check(folder: Path, frontier: Frontier, acknowledged: Answers, cut_off: set[str]) -> None:
    """Open the log again and look at everything that was promised. ``cut_off`` are the keys in flight at a kill."""
    asked, served = _asked_and_served(folder)
    cut_off |= asked - served
    calls = len(frontier.calls)
    assert acknowledged.keys() <= served
    async with Runtime.open(config(folder), world=world(folder, frontier.url)) as runtime:
        for key, output in acknowledged.items():
            assert output == truth({"text": key})
            assert (await runtime.submit("sort", {"text": key}, key=key)).output == output
        for key in sorted(served - acknowledged.keys()):  # the kill came between the commit and the acknowledgement
            assert (await runtime.submit("sort", {"text": key}, key=key)).output == truth({"text": key})
        assert len(frontier.calls) == calls
        for key in sorted(asked - served):
            assert (await runtime.submit("sort", {"text": key}, key=key)).output == truth({"text": key})
        await runtime.settled()
        assert runtime._spend.reservations == {}
        assert frontier.billed_nd <= runtime._spend.spent_since(0)
        assert runtime.status("sort").in_flight == 0
    assert replay.verify(folder / "log" / "log.db").ok
    for call in frontier.calls:
        assert call.input is not None
        assert frontier.times_billed(call.input) <= 1 + (call.input["text"] in cut_off)


def _asked_and_served(folder: Path) -> tuple[set[str], set[str]]:
    """The keys that the log has heard of, and those that it has an answer to."""
    keys, served = {}, set()
    for record in scan_file(folder / "log" / "log.db"):
        event = record.event()
        if isinstance(event, v.RequestReceived):
            keys[event.request] = event.key
        elif isinstance(event, v.ResponseServed):
            served.add(keys[event.request])
    return set(keys.values()), served


async def live_and_die(folder: Path, seed: int, lives: int, answers_max: int) -> None:
    chance = random.Random(seed)
    price = PriceTable.load().find(PROVIDER, MODELS[0])
    acknowledged: Answers = {}
    cut_off: set[str] = set()
    async with Frontier(answer=truth, price=price, latency=lambda index: chance.uniform(0.0, 0.01)) as frontier:
        for life in range(lives):
            acknowledged |= await run_and_kill(folder, frontier, seed, life, chance.randrange(0, answers_max))
            await check(folder, frontier, acknowledged, cut_off)


@pytest.mark.parametrize("seed", range(2))
async def test_answers_money_and_keys_survive_a_kill(tmp_path, seed):
    await live_and_die(tmp_path, seed, lives=1, answers_max=150)


@pytest.mark.heavy
@pytest.mark.parametrize("seed", range(100, 120))
async def test_answers_money_and_keys_survive_many_kills(tmp_path, seed):
    await live_and_die(tmp_path, seed, lives=4, answers_max=600)
