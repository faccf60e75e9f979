"""What a provider announces about a teacher reaches every task, once, with a date and a way out."""

import pytest

from apprentice.testing.folding import refold
from apprentice.testing.model_api import PLAIN, Announced
from apprentice.testing.world import MODELS, Options, SimulatedWorld, Traffic, simulate
from apprentice_actors.watching import DAY_S
from apprentice_events import replay
from apprentice_events import vocabulary as v

NAME = f"anthropic/{MODELS[0]}"
ENDING = Announced(shutdown_date="2026-06-30")


def events(world: SimulatedWorld, kind: type[v.Event]) -> list:
    world.memory.reopen()
    return [record.event() for record in world.memory.scan() if record.tag == kind.TAG]


async def next_day(world: SimulatedWorld) -> None:
    await world.clock.sleep(DAY_S)


def test_an_announced_shutdown_restarts_the_evidence_once_under_an_alert_with_the_date():
    async def program(world: SimulatedWorld) -> None:
        async with world.open() as runtime:
            await world.drive(runtime, Traffic(requests=300, settle=True))
            assert runtime.status("task_0").phase == "steady_state"
            epochs = {name: runtime.status(name).promise.epoch for name in ("task_0", "task_1")}
            world.frontier.announced[MODELS[0]] = ENDING
            for _ in range(3):
                await next_day(world)
            for name, epoch in epochs.items():
                status = runtime.status(name)
                assert status.promise.epoch == epoch + 1
                assert "2026-06-30" in status.alerts["teacher"]
                assert NAME in status.alerts["teacher"]
                assert "additional_providers" in status.alerts["teacher"]
            assert "will be shut down on 2026-06-30" in events(world, v.EvidenceRestarted)[-1].reason
            states, _ = refold(world.memory.scan())
            assert replay.diff(states["task_0"], runtime._state("task_0")) == []
        noticed = events(world, v.TeacherNoticed)
        assert [event.teacher for event in noticed] == [NAME] * 2
        raised = [task for task, alert, _ in world.sink.raised_alerts if alert == "teacher"]
        assert sorted(raised) == ["task_0", "task_1"]

    simulate(program, Options(watched=True, tasks=2))


def test_it_is_asked_at_the_start_and_a_restart_says_nothing_twice():
    async def program(world: SimulatedWorld) -> None:
        world.frontier.announced[MODELS[0]] = Announced(gone=True)
        for _ in range(2):
            async with world.open() as runtime:
                await world.drive(runtime, Traffic(requests=2, settle=True))
                assert "no longer in" in runtime.status("task_0").alerts["teacher"]
        assert world.frontier.looks == 2
        assert len(events(world, v.TeacherNoticed)) == 1

    simulate(program, Options(watched=True))


def test_a_moved_date_is_news_and_a_withdrawn_one_ends_the_alert():
    async def program(world: SimulatedWorld) -> None:
        async with world.open() as runtime:
            world.frontier.announced[MODELS[0]] = ENDING
            await next_day(world)
            world.frontier.announced[MODELS[0]] = Announced(shutdown_date="2026-12-31")
            await next_day(world)
            assert "2026-12-31" in runtime.status("task_0").alerts["teacher"]
            epoch = runtime.status("task_0").promise.epoch
            world.frontier.announced[MODELS[0]] = PLAIN
            await next_day(world)
            status = runtime.status("task_0")
            assert "teacher" not in status.alerts
            assert status.promise.epoch == epoch, "that it stays changes nothing about its answers"
        assert [event.notice[-10:] for event in events(world, v.TeacherNoticed)] == ["2026-06-30", "2026-12-31", ""]

    simulate(program, Options(watched=True))


@pytest.mark.parametrize("watched", [True, False])
def test_a_list_that_cannot_be_read_costs_no_request_anything(watched):
    async def program(world: SimulatedWorld) -> float:
        world.frontier.announced = None  # asking for any model raises
        async with world.open() as runtime:
            asked = await world.drive(runtime, Traffic(requests=5, settle=True))
            assert [one.error for one in asked] == [None] * 5
            assert runtime.status("task_0").alerts.get("teacher") is None
        assert not events(world, v.TeacherNoticed)
        return world.clock.monotonic()

    assert simulate(program, Options(watched=watched)) == pytest.approx(5 * 0.3, abs=0.1)
