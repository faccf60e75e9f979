"""``audit: inline``: who is audited waits for the remote answer and gets it, or the local one where none comes."""

from decimal import Decimal

import pytest

from apprentice.testing.faults import Fault
from apprentice.testing.folding import refold
from apprentice.testing.world import CATEGORIES, Options, SimulatedWorld, Traffic, simulate, truth
from apprentice_events import vocabulary as v

STEADY = Traffic(requests=150, settle=True, gap_s=0.0)


def inline(**more) -> Options:
    config = {"sampling": {"min_floor": 0.2}, "local": {"fine_tune_batch_size": 10_000}, **more.pop("config", {})}
    task = {"audit": "inline", **more.pop("task", {})}
    return Options(task=task, config=config, traffic=STEADY, **more)


def events(world: SimulatedWorld, *kinds: type[v.Event]) -> list:
    world.memory.reopen()
    found = [record.event() for record in world.memory.scan()]
    return [event for event in found if isinstance(event, kinds)]


def flipped(given):
    return {"category": CATEGORIES[(CATEGORIES.index(truth(given)["category"]) + 1) % len(CATEGORIES)]}


async def graduated(world: SimulatedWorld, runtime) -> None:
    await world.drive(runtime)
    assert runtime.status("task_0").phase == "steady_state"


async def consistent(world: SimulatedWorld, runtime) -> None:
    await runtime.settled()
    states, _ = refold(world.memory.scan())
    assert states["task_0"] == runtime._state("task_0")
    assert states["task_0"].flights == {}
    assert runtime.report().money.reserved == "0.00"


def routes(world: SimulatedWorld) -> dict[str, v.RequestRouted]:
    return {event.request: event for event in events(world, v.RequestRouted) if event.inline}


def test_who_is_audited_gets_the_remote_answer_and_everybody_else_the_local_one():
    async def program(world: SimulatedWorld) -> None:
        async with world.open() as runtime:
            await graduated(world, runtime)
            world.teaches = flipped
            asked = await world.drive(runtime, Traffic(requests=12, settle=True), begin=1000)
            await consistent(world, runtime)
            waited = routes(world)
            for one in asked:
                assert one.output == (flipped if one.request_id in waited else truth)(one.given)
            assert {one.request_id in waited for one in asked} == {True, False}
        served = {event.request: event.by for event in events(world, v.ResponseServed)}
        scores = {event.request: event for event in events(world, v.RemoteScored) if event.inline}
        assert {served[name] for name in waited} == {"remote"}
        assert scores.keys() == waited.keys()
        for name, score in scores.items():
            assert (score.served, score.audit_probability) == ("remote", waited[name].audit_probability)

    simulate(program, inline(seed=1))


def test_the_watch_over_what_is_served_sees_inline_audits():
    """The detectors raise the alarm, and the agreement of local answers is estimated, as with audits beside them."""

    async def program(world: SimulatedWorld) -> None:
        async with world.open() as runtime:
            await graduated(world, runtime)
            before = runtime._state("task_0").evidence.served_local.count
            await world.drive(runtime, Traffic(requests=60, settle=True), begin=500)
            evidence = runtime._state("task_0").evidence
            assert evidence.served_local.count > before
            assert evidence.served_local.agreement == pytest.approx(evidence.served_local.weight)
            world.teaches = flipped
            await world.drive(runtime, Traffic(requests=150, settle=True), begin=1000)
            assert runtime.status("task_0").phase == "reinforcement"
        assert len(events(world, v.ShiftDetected)) == 1

    simulate(program, inline(seed=2))


@pytest.mark.parametrize("trouble", ["down", "refusal", "broke"])
def test_without_a_remote_answer_the_waiting_caller_gets_the_local_one(trouble):
    async def program(world: SimulatedWorld) -> None:
        async with world.open() as runtime:
            await graduated(world, runtime)
        if trouble == "broke":
            empty = world.config.budget.model_copy(update={"daily": Decimal("0.0001")})
            world.config = world.config.model_copy(update={"budget": empty})
        async with world.open() as runtime:
            if trouble != "broke":
                world.frontier.fail_next(Fault.unauthorized if trouble == "down" else Fault.refusal, 100)
            asked = await world.drive(runtime, Traffic(requests=4, settle=True), begin=1000)
            assert [one.error for one in asked] == [None] * 4
            assert all(one.output == truth(one.given) for one in asked)
            await consistent(world, runtime)
            waited = routes(world).keys() & {one.request_id for one in asked}
            assert waited
        served = [event for event in events(world, v.ResponseServed) if event.request in waited]
        assert {(event.by, event.degraded) for event in served} == {("local", None)}
        missed = {event.request for event in events(world, v.AuditMissed)} & waited
        scored = [event for event in events(world, v.RemoteScored) if event.request in waited]
        assert missed == (set() if trouble == "refusal" else waited)
        assert {(event.score, event.served) for event in scored} == (
            {(0.0, "local")} if trouble == "refusal" else set()
        )

    simulate(program, inline(seed=3))


def test_audits_run_beside_the_answer_by_default():
    async def program(world: SimulatedWorld) -> None:
        async with world.open() as runtime:
            await graduated(world, runtime)
            await world.drive(runtime, Traffic(requests=30, settle=True), begin=1000)
        assert routes(world) == {}

    simulate(program, inline(task={"audit": "background"}))
