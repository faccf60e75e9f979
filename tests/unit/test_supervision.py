"""Supervision: what comes back, what is given up, and that nobody is left waiting or running."""

import asyncio
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from apprentice.testing.clock import VirtualClock, virtual_time
from apprentice_actors.actor import Actor, ActorRef, ActorStopped, Reply, StopReason
from apprentice_actors.supervision import ActorIsolated, RestartPolicy, Supervisor

NEVER_S = 1e9


class World:
    """Actors that share a diary, and the failures they were isolated for."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.diary: list[tuple[float, str, Any]] = []
        self.isolated: list[tuple[str, str]] = []
        self.start_failures: dict[str, int] = {}
        self.supervisor = Supervisor(clock, on_isolated=lambda name, error: self.isolated.append((name, str(error))))

    def note(self, name: str, what: Any) -> None:
        self.diary.append((round(self.clock.monotonic(), 3), name, what))

    def of(self, name: str) -> list[Any]:
        return [what for _, who, what in self.diary if who == name]

    def start(self, name: str, **options: Any) -> ActorRef[Any]:
        return self.supervisor.start(name, lambda ref: Fragile(ref, self), **options)


class Fragile(Actor[Any]):
    """Fails when told to; ``("slow", s)`` takes s seconds."""

    batch_max = 1

    def __init__(self, ref: ActorRef[Any], world: World) -> None:
        super().__init__(ref)
        self.world = world

    async def started(self) -> None:
        self.world.note(self.ref.name, "started")
        if self.world.start_failures.get(self.ref.name, 0) > 0:
            self.world.start_failures[self.ref.name] -= 1
            raise RuntimeError("no start")

    async def receive(self, batch: list[Any]) -> None:
        match batch[0]:
            case "fail":
                raise RuntimeError("told to")
            case "finish":
                self.finish()
            case ("slow", float(seconds)):
                await self.world.clock.sleep(seconds)
            case Reply() as reply:
                reply.set("here")
                return
        self.world.note(self.ref.name, batch[0])

    async def stopped(self, reason: StopReason) -> None:
        self.world.note(self.ref.name, reason.kind)


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    caplog.set_level(logging.WARNING)
    yield
    for record in caplog.get_records("call"):
        assert record.name == "apprentice_actors.supervision", record.getMessage()  # no stray asyncio complaint


async def ask(ref: ActorRef[Any]) -> str:
    return await ref.ask(lambda reply: reply, timeout=NEVER_S)


@virtual_time
async def test_a_failed_actor_comes_back_and_finds_what_it_had_not_taken(clock: VirtualClock):
    world = World(clock)
    async with world.supervisor:
        ref = world.start("task")
        for message in ("one", "fail", "two"):
            ref.tell(message)
        assert await ask(ref) == "here"
        statistics = world.supervisor.statistics()["task"]
        assert (statistics.state, statistics.restarts) == ("running", 1)
        assert statistics.last_error == "RuntimeError('told to')"
        assert statistics.mailbox.handled == 4
    assert world.of("task") == ["started", "one", "failed", "started", "two", "closed"]
    assert world.isolated == []


@virtual_time
async def test_the_back_off_grows_up_to_its_maximum(clock: VirtualClock):
    world = World(clock)
    world.start_failures["task"] = 4
    policy = RestartPolicy(
        max_restarts=4, within_s=60, backoff_initial_s=1, backoff_max_s=5, backoff_factor=3, shutdown_s=1
    )
    async with world.supervisor:
        await ask(world.start("task", policy=policy))
    assert [time for time, _, what in world.diary if what == "started"] == [0, 1, 4, 9, 14]


@virtual_time
async def test_one_failure_too_many_isolates_the_actor_and_its_sibling_does_not_notice(clock: VirtualClock):
    world = World(clock)
    async with world.supervisor:
        sibling = world.start("sibling")
        ref = world.start("task")
        for message in ("fail", "fail", "fail", "never"):
            ref.tell(message)
        with pytest.raises(ActorIsolated, match="task: isolated after 2 restarts, last failure RuntimeError"):
            await ask(ref)
        assert world.isolated == [("task", "told to")]
        assert not ref.tell("never")
        with pytest.raises(ActorIsolated):
            await ref.put("never", timeout=1)
        with pytest.raises(ActorIsolated):
            await ask(ref)
        assert world.supervisor.statistics()["task"].state == "isolated"
        assert await ask(sibling) == "here"
        assert world.supervisor.statistics()["sibling"].restarts == 0
    with pytest.raises(ActorIsolated):  # it stays what it is after the shutdown too
        await ask(ref)
    assert world.of("task") == ["started", "failed"] * 3
    assert world.of("sibling") == ["started", "closed"]


@virtual_time
async def test_failures_far_apart_are_tolerated_for_ever(clock: VirtualClock):
    world = World(clock)
    async with world.supervisor:
        ref = world.start("task")
        for _ in range(20):
            ref.tell("fail")
            await clock.sleep(2.6)
        assert world.supervisor.statistics()["task"].restarts == 20
    assert world.isolated == []


@pytest.mark.parametrize(
    ("kind", "message", "lives", "isolated"),
    [
        ("permanent", "fail", 2, False),
        ("permanent", "finish", 2, False),
        ("transient", "fail", 2, False),
        ("transient", "finish", 1, False),
        ("temporary", "fail", 1, True),
        ("temporary", "finish", 1, False),
    ],
)
@virtual_time
async def test_the_kind_decides_what_comes_back(
    kind: Any, message: str, lives: int, isolated: bool, clock: VirtualClock
):
    world = World(clock)
    async with world.supervisor:
        ref = world.start("task", policy=RestartPolicy(kind=kind))
        ref.tell(message)
        await clock.sleep(10)
        assert world.of("task").count("started") == lives
        assert ref.mailbox.closed == (lives == 1)
        assert bool(world.isolated) == isolated
        if lives == 1:
            with pytest.raises(ActorIsolated if isolated else ActorStopped):
                await ask(ref)


@virtual_time
async def test_a_factory_that_fails_counts_as_a_failed_life(clock: VirtualClock):
    world = World(clock)

    def broken(ref: ActorRef[Any]) -> Actor[Any]:
        raise LookupError("no such model")

    async with world.supervisor:
        ref = world.supervisor.start("task", broken)
        with pytest.raises(ActorIsolated):
            await ask(ref)
    assert world.isolated == [("task", "no such model")]


@virtual_time
async def test_shutdown_handles_what_is_inside_in_reverse_order_of_start(clock: VirtualClock):
    world = World(clock)
    async with world.supervisor:
        for name in ("first", "second"):
            world.start(name).tell(("slow", 2.0))
    assert [(who, what) for _, who, what in world.diary if what != "started"] == [
        ("first", ("slow", 2.0)),
        ("second", ("slow", 2.0)),
        ("second", "closed"),
        ("first", "closed"),
    ]
    assert clock.monotonic() == 2


@virtual_time
async def test_an_actor_that_takes_too_long_is_cancelled_and_its_askers_are_told(clock: VirtualClock):
    world = World(clock)
    async with world.supervisor:
        ref = world.start("task", policy=RestartPolicy(shutdown_s=3))
        ref.tell(("slow", NEVER_S))
        asking = asyncio.ensure_future(ask(ref))
        await asyncio.sleep(0)
    assert clock.monotonic() == 3
    assert world.of("task") == ["started", "cancelled"]
    with pytest.raises(ActorStopped):
        await asking


@virtual_time
async def test_a_tear_down_that_hangs_is_cancelled_again(clock: VirtualClock):
    class Stubborn(Fragile):
        async def stopped(self, reason: StopReason) -> None:
            await self.world.clock.sleep(NEVER_S)

    world = World(clock)
    async with world.supervisor:
        ref = world.supervisor.start("task", lambda ref: Stubborn(ref, world), policy=RestartPolicy(shutdown_s=3))
        ref.tell(("slow", NEVER_S))
    assert clock.monotonic() == 6


@virtual_time
async def test_an_actor_that_waits_for_its_restart_is_stopped_at_once(clock: VirtualClock):
    world = World(clock)
    async with world.supervisor:
        ref = world.start("task", policy=RestartPolicy(backoff_initial_s=2, max_restarts=1))
        ref.tell("fail")
        await clock.sleep(1)
        assert world.supervisor.statistics()["task"].state == "restarting"
        asking = asyncio.ensure_future(ask(ref))
        await asyncio.sleep(0)
    assert clock.monotonic() == 1
    with pytest.raises(ActorStopped):
        await asking


@virtual_time
async def test_an_actor_that_fails_while_it_is_stopped_is_not_restarted(
    clock: VirtualClock, caplog: pytest.LogCaptureFixture
):
    world = World(clock)
    async with world.supervisor:
        ref = world.start("task")
        ref.tell(("slow", 1.0))
        ref.tell("fail")
    assert world.of("task") == ["started", ("slow", 1.0), "failed"]
    assert "task failed while it was being stopped" in caplog.text


@virtual_time
async def test_an_error_in_the_scope_still_stops_everyone(clock: VirtualClock):
    world = World(clock)

    async def scope() -> None:
        async with world.supervisor:
            await ask(world.start("task"))
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await scope()
    assert world.of("task") == ["started", "closed"]


@virtual_time
async def test_a_cancelled_shutdown_cancels_everyone_at_once(clock: VirtualClock):
    world = World(clock)

    async def scope() -> None:
        async with world.supervisor:
            for name in ("first", "second"):
                world.start(name).tell(("slow", NEVER_S))

    host = asyncio.ensure_future(scope())
    await clock.sleep(1)
    host.cancel()
    await asyncio.wait({host})
    assert host.cancelled()
    assert world.of("first") == world.of("second") == ["started", "cancelled"]
    assert clock.monotonic() == 1
    assert asyncio.all_tasks() == {asyncio.current_task()}


@virtual_time
async def test_an_actor_that_answers_its_cancellation_with_a_failure_is_not_restarted(clock: VirtualClock):
    class Sulking(Fragile):
        async def receive(self, batch: list[Any]) -> None:
            try:
                await super().receive(batch)
            except asyncio.CancelledError:
                raise RuntimeError("not now") from None

    world = World(clock)

    async def scope() -> None:
        async with world.supervisor:
            world.supervisor.start("first", lambda ref: Sulking(ref, world)).tell(("slow", NEVER_S))
            world.start("second").tell(("slow", NEVER_S))

    host = asyncio.ensure_future(scope())
    await clock.sleep(1)
    host.cancel()
    await asyncio.wait({host})
    assert host.cancelled()
    assert world.of("first") == ["started", "failed"]
    assert clock.monotonic() == 1


@virtual_time
async def test_a_stopped_name_can_be_used_again(clock: VirtualClock):
    world = World(clock)
    async with world.supervisor:
        world.start("task")
        with pytest.raises(ValueError, match="task: an actor of this name is running"):
            world.start("task")
        await world.supervisor.stop("task")
        assert world.supervisor.statistics() == {}
        assert await ask(world.start("task")) == "here"
    with pytest.raises(RuntimeError, match="late: the supervisor is not open"):
        world.start("late")


@virtual_time
async def test_what_the_alarm_itself_raises_comes_out_of_the_shutdown(clock: VirtualClock):
    def broken_alarm(name: str, error: Exception) -> None:
        raise OSError("no alarm")

    world = World(clock)
    supervisor = Supervisor(clock, on_isolated=broken_alarm)

    async def scope() -> None:
        async with supervisor:
            supervisor.start("sibling", lambda ref: Fragile(ref, world))
            ref = supervisor.start("task", lambda ref: Fragile(ref, world), policy=RestartPolicy(kind="temporary"))
            ref.tell("fail")
            with pytest.raises(ActorIsolated):
                await ask(ref)

    with pytest.RaisesGroup(pytest.RaisesExc(OSError, match="no alarm")):
        await scope()
    assert world.of("sibling") == ["started", "closed"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_restarts": -1},
        {"within_s": 0},
        {"shutdown_s": 0},
        {"backoff_initial_s": 9, "backoff_max_s": 1},
        {"backoff_factor": 0.5},
        {"max_restarts": 3, "within_s": 1, "backoff_initial_s": 1},
    ],
)
def test_a_policy_that_cannot_be_meant_is_refused(wrong: dict[str, float]):
    with pytest.raises(ValueError, match=r"RestartPolicy\("):
        RestartPolicy(**wrong)  # type: ignore[arg-type]
