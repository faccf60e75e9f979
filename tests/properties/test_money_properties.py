"""The caps hold in every world that hypothesis can think of: failing calls, callers who leave, cut connections."""

from hypothesis import given, settings
from hypothesis import strategies as st

from apprentice.testing.faults import Fault
from apprentice.testing.folding import refold
from apprentice.testing.world import Options, Traffic, simulate

KINDS = tuple(sorted(set(Fault) - {Fault.hang}))
"""A call that hangs for ever is as a slow one, for longer."""


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    burst=st.integers(1, 120),
    fault_probability=st.sampled_from([0.0, 0.3, 0.8]),
    kinds=st.sets(st.sampled_from(KINDS), min_size=1, max_size=4),
    impatient=st.sampled_from([0.0, 0.5]),
    repeated=st.sampled_from([0.0, 0.3]),
    cap_nd=st.integers(8, 40),
    slowest_s=st.floats(0.01, 30.0),
)
def test_spend_stays_under_the_cap_and_nothing_stays_reserved(
    seed, burst, fault_probability, kinds, impatient, repeated, cap_nd, slowest_s
):
    cap_nd *= 1_000_000

    async def program(world):
        async with world.open() as runtime:
            asked = await world.drive(runtime)
            await runtime.settled()
            assert runtime._spend.reservations == {}
            assert all(one.output or one.error or one.gone for one in asked)
        world.memory.reopen()
        _, spend = refold(world.memory.scan())
        assert spend.reservations == {}
        assert spend == runtime._spend
        assert world.frontier.billed_nd <= spend.spent_since(0) <= cap_nd

    options = Options(
        seed=seed,
        traffic=Traffic(requests=120, burst=burst, impatient=impatient, repeated=repeated, patience_s=slowest_s),
        fault_probability=fault_probability,
        fault_kinds=tuple(sorted(kinds)),
        latency_s=(0.01, slowest_s),
        task={"max_output_tokens": 64, "confidence_thresholds": {"phase1_to_phase2": 20}, "deadline_s": 20},
        config={"budget": {"daily": f"{cap_nd / 1e9:.6f}"}, "local": {"fine_tune_batch_size": 20}},
        outcomes=("learning", "failing", "perfect"),
    )
    simulate(program, options)
