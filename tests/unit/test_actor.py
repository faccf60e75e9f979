"""One life of an actor: three steps, batches, effects, and an answer for everyone who asked."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest

from apprentice.testing.clock import VirtualClock, virtual_time
from apprentice_actors.actor import Actor, ActorFailed, ActorRef, ActorStopped, AskTimeout, Reply, StopReason
from apprentice_actors.mailbox import MailboxFull


@dataclass
class Call:
    """Something asked: the actor answers as ``what`` says."""

    what: str
    reply: Reply[str]


@dataclass
class Script(Actor[Any]):
    """Notes what happens to it and does what it is told."""

    ref: ActorRef[Any]
    notes: list[Any] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    fail_at: str = ""

    def __post_init__(self) -> None:
        super().__init__(self.ref)

    async def started(self) -> None:
        self.notes.append("started")
        if self.fail_at == "started":
            raise RuntimeError("no start")

    async def receive(self, batch: list[Any]) -> None:
        self.notes.append(batch)
        for message in batch:
            await self.handle(message)

    async def handle(self, message: Any) -> None:
        match message:
            case Call("echo", reply):
                reply.set("echo")
            case Call("refuse", reply):
                reply.fail(KeyError("refused"))
            case "wait":
                await self.gate.wait()
            case "fail" | Call("fail", _):
                raise RuntimeError("told to")
            case "finish":
                self.finish()

    async def stopped(self, reason: StopReason) -> None:
        self.notes.append(reason.kind)
        if self.fail_at == "stopped":
            raise RuntimeError("no stop")


def call(what: str):
    return lambda reply: Call(what, reply)


def live(actor: Actor[Any]) -> "asyncio.Task[None]":
    return asyncio.ensure_future(actor.run())


@virtual_time
async def test_the_three_steps_come_in_order():
    actor = Script(ActorRef("a"))
    actor.tell(1)
    actor.tell(2)
    actor.ref.close()
    await actor.run()
    assert actor.notes == ["started", [1, 2], "closed"]


@virtual_time
async def test_batches_hold_what_is_ready_up_to_the_limit():
    actor = Script(ActorRef("a"))
    actor.batch_max = 3
    for n in range(7):
        actor.tell(n)
    actor.ref.close()
    await actor.run()
    assert actor.notes[1:-1] == [[0, 1, 2], [3, 4, 5], [6]]


@virtual_time
async def test_an_ask_gets_its_answer_or_its_error():
    actor = Script(ActorRef("a"))
    life = live(actor)
    assert await actor.ask(call("echo"), timeout=1) == "echo"
    with pytest.raises(KeyError, match="refused"):
        await actor.ask(call("refuse"), timeout=1)
    actor.ref.close()
    await life


@virtual_time
async def test_an_ask_without_an_answer_times_out_at_its_deadline(clock: VirtualClock):
    actor = Script(ActorRef("purse"))
    life = live(actor)
    with pytest.raises(AskTimeout, match=r"purse: no answer within 1\.5 s"):
        await actor.ask(call("silence"), timeout=1.5)
    assert clock.monotonic() == 1.5
    late = actor.notes[1][0].reply
    assert not late.set("too late")
    assert not late.fail(KeyError("too late"))
    actor.ref.close()
    await life


@virtual_time
async def test_waiting_for_room_counts_into_the_deadline(clock: VirtualClock):
    ref: ActorRef[Any] = ActorRef("a", capacity=1)
    ref.tell("wait")
    actor = Script(ref)
    asking = asyncio.ensure_future(ref.ask(call("silence"), timeout=3))
    await clock.sleep(2)
    life = live(actor)
    actor.gate.set()
    with pytest.raises(AskTimeout):
        await asking
    assert clock.monotonic() == 3
    ref.close()
    await life


@virtual_time
async def test_an_ask_into_a_full_mailbox_gives_up_at_its_deadline(clock: VirtualClock):
    ref: ActorRef[Any] = ActorRef("a", capacity=1)
    ref.tell("wait")
    with pytest.raises(MailboxFull):
        await ref.ask(call("echo"), timeout=2)
    assert clock.monotonic() == 2


@virtual_time
async def test_an_asker_that_is_gone_harms_nobody():
    actor = Script(ActorRef("a"))
    actor.tell("wait")
    life = live(actor)
    asking = asyncio.ensure_future(actor.ask(call("echo"), timeout=9))
    await asyncio.sleep(0)
    asking.cancel()
    await asyncio.wait({asking})
    actor.gate.set()
    assert await actor.ask(call("echo"), timeout=1) == "echo"
    actor.ref.close()
    await life


@virtual_time
async def test_an_asker_cancelled_at_the_moment_its_ask_got_in_takes_no_answer():
    ref: ActorRef[Any] = ActorRef("a", capacity=1)
    ref.tell("full")
    asking = asyncio.ensure_future(ref.ask(call("echo"), timeout=9))
    await asyncio.sleep(0)
    assert ref.mailbox.drain(1) == ["full"]
    asking.cancel()
    await asyncio.wait({asking})
    (envelope,) = ref.mailbox.drain(1)
    assert asking.cancelled()
    assert envelope.reply.done
    assert not envelope.reply.set("nobody is there")


@pytest.mark.parametrize("broken_teardown", [False, True])
@virtual_time
async def test_death_answers_every_ask_taken_or_not(broken_teardown: bool, clock: VirtualClock):
    actor = Script(ActorRef("a"), fail_at="stopped" if broken_teardown else "")
    life = live(actor)
    taken = asyncio.ensure_future(actor.ask(call("silence"), timeout=99))
    await clock.sleep(1)
    actor.tell("wait")
    await clock.sleep(1)
    inside = asyncio.ensure_future(actor.ask(call("echo"), timeout=99))
    await asyncio.sleep(0)
    assert actor.ref.statistics().depth == 1
    life.cancel()
    results = await asyncio.gather(life, taken, inside, return_exceptions=True)
    assert isinstance(results[0], RuntimeError if broken_teardown else asyncio.CancelledError)
    assert [type(result) for result in results[1:]] == [ActorStopped, ActorStopped]
    assert clock.monotonic() == 2
    with pytest.raises(ActorStopped):
        await actor.ask(call("echo"), timeout=9)


@virtual_time
async def test_a_failing_step_fails_the_asks_of_its_batch_and_says_why():
    actor = Script(ActorRef("a"))
    asking = asyncio.ensure_future(actor.ask(call("fail"), timeout=99))
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="told to"):
        await actor.run()
    with pytest.raises(ActorStopped, match=r"ended before it answered \(failed: RuntimeError\('told to'\)\)"):
        await asking
    assert actor.notes[-1] == "failed"


@virtual_time
async def test_a_kept_mailbox_keeps_what_was_not_taken():
    ref: ActorRef[Any] = ActorRef("a")
    first = Script(ref)
    first.batch_max = 1
    ref.tell("fail")
    ref.tell("next")
    with pytest.raises(RuntimeError, match="told to"):
        await first.run(keep_mailbox=True)
    ref.close()
    second = Script(ref)
    await second.run()
    assert second.notes == ["started", ["next"], "closed"]


@virtual_time
async def test_a_failed_start_is_torn_down_too():
    actor = Script(ActorRef("a"), fail_at="started")
    with pytest.raises(RuntimeError, match="no start"):
        await actor.run()
    assert actor.notes == ["started", "failed"]


@virtual_time
async def test_the_first_failure_wins_and_notes_the_second():
    actor = Script(ActorRef("a"), fail_at="stopped")
    actor.tell("fail")
    with pytest.raises(RuntimeError, match="told to") as caught:
        await actor.run()
    assert caught.value.__notes__ == ["then stopped() failed too: RuntimeError('no stop')"]


@virtual_time
async def test_finish_ends_the_life_after_the_batch():
    actor = Script(ActorRef("a"))
    actor.tell("finish")
    await actor.run()
    assert actor.notes == ["started", ["finish"], "finished"]


@virtual_time
async def test_awaiting_something_cancelled_is_a_failure_not_a_cancellation():
    class Careless(Actor[Any]):
        async def started(self) -> None:
            future = asyncio.get_running_loop().create_future()
            future.cancel()
            await future

    with pytest.raises(ActorFailed, match="awaited something that was cancelled"):
        await Careless(ActorRef("a")).run()


class Worker(Script):
    """Runs effects: ``("run", seconds, outcome)``; an exception as outcome is raised by the effect."""

    async def handle(self, message: Any) -> None:
        match message:
            case ("run", float(seconds), outcome):
                self.spawn(self.effect(seconds, outcome))
            case _:
                await super().handle(message)

    async def effect(self, seconds: float, outcome: Any) -> Any:
        try:
            await VirtualClock(asyncio.get_running_loop()).sleep(seconds)
        except asyncio.CancelledError:
            self.notes.append("effect cancelled")
            raise
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


@virtual_time
async def test_effects_come_back_as_messages_while_others_are_handled(clock: VirtualClock):
    actor = Worker(ActorRef("a"))
    actor.tell(("run", 5.0, "slow"))
    actor.tell(("run", 1.0, "quick"))
    life = live(actor)
    await clock.sleep(2)
    actor.tell("hello")
    await clock.sleep(9)
    assert actor.notes[2:] == [["quick"], ["hello"], ["slow"]]
    actor.ref.close()
    await life


@virtual_time
async def test_outcomes_still_come_back_after_a_close(clock: VirtualClock):
    actor = Worker(ActorRef("a", capacity=1))
    life = live(actor)
    actor.tell(("run", 5.0, "late"))
    await clock.sleep(1)
    actor.ref.close()
    await life
    assert actor.notes[2:] == [["late"], "closed"]
    assert clock.monotonic() == 5


@virtual_time
async def test_an_effect_without_outcome_lets_the_actor_end(clock: VirtualClock):
    actor = Worker(ActorRef("a"))
    actor.tell(("run", 5.0, None))
    actor.ref.close()
    await actor.run()
    assert actor.notes[2:] == ["closed"]
    assert clock.monotonic() == 5


@virtual_time
async def test_a_failing_effect_fails_the_actor_and_takes_its_siblings_along():
    actor = Worker(ActorRef("a"))
    actor.tell(("run", 1.0, ValueError("broken effect")))
    actor.tell(("run", 9.0, "never"))
    with pytest.raises(ValueError, match="broken effect"):
        await actor.run()
    assert actor.notes[2:] == ["effect cancelled", "failed"]


@virtual_time
async def test_spawning_outside_a_life_is_a_mistake():
    actor = Worker(ActorRef("purse"))
    with pytest.raises(RuntimeError, match="purse: not running"):
        actor.spawn(actor.effect(1.0, None))
