"""Rebuilding: at any cut of any world's log, folding is repeatable, can be resumed, and equals what was live then."""

import asyncio

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from apprentice.testing.faults import Fault
from apprentice.testing.folding import refold
from apprentice.testing.world import Options, Traffic, simulate
from apprentice_events import replay
from apprentice_events.task_state import TaskState, evolve


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    burst=st.integers(1, 30),
    fault_probability=st.sampled_from([0.0, 0.3]),
    pauses=st.lists(st.floats(0.001, 20.0), min_size=1, max_size=6),
    cut=st.floats(0.0, 1.0),
)
def test_the_log_up_to_now_is_the_state_of_now(seed, burst, fault_probability, pauses, cut):
    async def program(world):
        async with world.open() as runtime:
            driving = asyncio.create_task(world.drive(runtime))
            for pause_s in pauses:
                await world.clock.sleep(pause_s)
                states, spend = refold(world.memory.scan())
                assert replay.diff(states["task_0"], runtime._state("task_0")) == []
                assert replay.diff(spend.of("task_0"), runtime._spend.of("task_0")) == []
            await driving
        world.memory.reopen()
        records = list(world.memory.scan())
        some = records[: round(cut * len(records))]
        states, _ = refold(some)
        assert states == refold(some)[0]
        # a state that was written down and read again goes on as if nothing had happened
        middle = msgspec.json.decode(
            msgspec.json.encode(states.get("task_0", TaskState(task="task_0"))), type=TaskState
        )
        for record in records[len(some) :]:
            if record.stream == "task/task_0":
                evolve(middle, record.event(), record.time_ns)
        assert replay.diff(middle, refold(records)[0]["task_0"]) == []

    options = Options(
        seed=seed,
        traffic=Traffic(requests=120, burst=burst),
        latency_s=(0.05, 2.0),
        fault_probability=fault_probability,
        fault_kinds=(Fault.server_error, Fault.cut_connection, Fault.refusal),
        task={"confidence_thresholds": {"phase1_to_phase2": 20}},
        config={"local": {"fine_tune_batch_size": 20}},
    )
    simulate(program, options)
