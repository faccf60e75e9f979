"""The whole runtime writes the same log, byte for byte, whether it leaves out the standing rules after quiet events."""

import pytest

from apprentice.testing.faults import Fault
from apprentice.testing.world import Options, Traffic, simulate, truth
from apprentice_actors import quiet, task
from apprentice_events import vocabulary as v

HOUR_S = 3600.0
SOON = {"phase1_to_phase2": 25, "phase2_to_phase3": 0.6, "coaching_trigger": 0.5, "emergency_threshold": 0.2}
EASY = {"guarantee": {"agreement": 0.7}, "confidence_thresholds": SOON, "max_output_tokens": 64}
WORLDS = {
    "troubled": Options(
        seed=1,
        tasks=2,
        traffic=Traffic(requests=150, burst=9, repeated=0.1, impatient=0.1),
        outcomes=("learning", "failing", "perfect"),
        latency_s=(0.05, 3.0),
        fault_probability=0.15,
        fault_kinds=(Fault.server_error, Fault.cut_connection, Fault.refusal, Fault.wrong_schema, Fault.slow),
        task=EASY,
        config={"local": {"fine_tune_batch_size": 25}, "budget": {"daily": "1.00"}},
    ),
    "paced, with some questions asked twice": Options(
        seed=2,
        traffic=Traffic(requests=150, burst=5),
        outcomes=("learning",),
        skill=0.93,
        task=EASY,
        config={"budget": {"daily": "0.5", "pacing": True}, "sampling": {"self_agreement_rate": 0.2}},
    ),
    "by the calendar, audited inline": Options(
        seed=3,
        traffic=Traffic(requests=150, burst=20, gap_s=20 * 60.0),
        outcomes=("learning",),
        task=EASY | {"audit": "inline"},
        config={"local": {"triggers": {"cron": "*/30 * * * *", "max_wait_hours": 1}}},
    ),
}


async def lived(world):
    """A life in three parts, between them restarts, and before the last one a teacher that has changed its mind."""
    for begin in (0, 1000, 2000):
        async with world.open() as runtime:
            await world.drive(runtime, begin=begin)
            await runtime.settled()
        await world.clock.sleep(5 * HOUR_S)
        if begin:
            world.teaches = lambda asked: truth({**asked, "text": f"{asked['text']}!"})
    world.memory.reopen()
    records = list(world.memory.scan())
    return (await world.memory.head()).digest.hex(), [record.event() for record in records]


def counted(monkeypatch):
    """How often the rules were asked."""
    asked = []
    monkeypatch.setattr(task, "ask_rules", lambda *given: asked.append(1) or quiet.ask_rules(*given))
    return asked


@pytest.mark.parametrize("name", WORLDS)
def test_leaving_out_the_rules_leaves_no_trace(name, monkeypatch):
    asked = counted(monkeypatch)
    quick, events = simulate(lived, WORLDS[name])
    seldom = len(asked)
    monkeypatch.setattr(task, "quiet", lambda *given: False)
    thorough, _ = simulate(lived, WORLDS[name])
    assert quick == thorough
    assert 2 * seldom < len(asked) - seldom
    assert any(isinstance(event, v.ResponseServed) and event.by == "local" for event in events)
    assert any(isinstance(event, v.GateChanged) for event in events)
