"""One seed, one log; and the log is all there is: folded anew it gives every live state."""

import os
import subprocess
import sys

import pytest

from apprentice.testing.faults import Fault
from apprentice.testing.folding import refold
from apprentice.testing.world import Options, SimulatedWorld, Traffic, simulate
from apprentice_events import replay

TROUBLED = {
    "traffic": Traffic(requests=250, burst=9, repeated=0.1, impatient=0.1),
    "tasks": 2,
    "outcomes": ("learning", "failing", "perfect"),
    "latency_s": (0.05, 3.0),
    "fault_probability": 0.15,
    "fault_kinds": (Fault.server_error, Fault.cut_connection, Fault.refusal, Fault.wrong_schema, Fault.slow),
    "task": {"confidence_thresholds": {"phase1_to_phase2": 25}},
    "config": {"local": {"fine_tune_batch_size": 25}, "budget": {"daily": "1.00"}},
}


async def head_of(world: SimulatedWorld) -> str:
    async with world.open() as runtime:
        await world.drive(runtime)
    world.memory.reopen()
    head = await world.memory.head()
    assert head.position > 1000
    return head.digest.hex()


def head_after(seed: int) -> str:
    return simulate(head_of, Options(seed=seed, **TROUBLED))


def test_the_same_seed_gives_the_same_log_and_another_seed_another():
    assert head_after(1) == head_after(1) != head_after(2)


def test_the_log_does_not_depend_on_the_process():
    """The order of sets of strings differs from process to process; nothing may follow from it."""
    code = "import test_worlds_replayed; print(test_worlds_replayed.head_after(1))"
    folder = os.path.dirname(__file__)
    heads = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": folder},
            capture_output=True,
            check=True,
            text=True,
        ).stdout.split()[-1]
        for seed in ("1", "2")
    }
    assert heads == {head_after(1)}


@pytest.mark.parametrize("seed", range(3))
def test_the_folded_log_equals_every_live_state_at_every_pause(seed):
    async def program(world):
        for begin in (0, 1000, 2000):
            async with world.open() as runtime:
                await world.drive(runtime, begin=begin)
                states, spend = refold(world.memory.scan())
                for name, state in states.items():
                    assert replay.diff(state, runtime._state(name)) == []
                assert replay.diff(spend, runtime._spend) == []
        world.memory.reopen()
        assert replay.verify(world.memory).ok
        assert refold(world.memory.scan()) == refold(world.memory.scan())

    simulate(program, Options(seed=seed, **{**TROUBLED, "traffic": Traffic(requests=60, burst=7, repeated=0.1)}))
