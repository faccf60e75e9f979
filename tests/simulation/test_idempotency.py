"""One key, one request, one answer."""

import asyncio

import pytest

from apprentice.errors import Erased, KeyConflict, RemoteRefused
from apprentice.testing.faults import Fault
from apprentice.testing.world import Options, Traffic, simulate
from apprentice_events import vocabulary as v

ASKED = {"text": "my ticket"}


def received(world):
    return [event for event in (one.event() for one in world.memory.scan()) if isinstance(event, v.RequestReceived)]


def test_the_same_key_at_once_is_one_request():
    async def program(world):
        async with world.open() as runtime:
            results = await asyncio.gather(*(runtime.submit("task_0", ASKED, key="a") for _ in range(50)))
            assert len(set(map(str, results))) == 1
            assert len(world.frontier.calls) == len(received(world)) == 1

    simulate(program)


def test_a_key_that_comes_while_the_rest_of_its_request_is_under_way_gets_the_answer_at_once():
    """The caller has the local answer, the audit beside it runs for ten seconds more."""

    async def program(world):
        async with world.open() as runtime:
            await world.drive(runtime, Traffic(requests=130, settle=True))
            assert runtime.status("task_0").phase == "steady_state"
            number = 0
            while not runtime._state("task_0").flights:
                number += 1
                first = await runtime.submit("task_0", {"text": f"{number}"}, key=f"{number}")
            before = world.clock.monotonic()
            again = await runtime.submit("task_0", {"text": f"{number}"}, key=f"{number}", timeout_s=1.0)
            assert again == first
            assert world.clock.monotonic() - before < 0.1
            assert runtime._state("task_0").flights

    simulate(program, Options(latency_s=(0.2, 0.2)))


@pytest.mark.parametrize("restart", [False, True])
def test_the_same_key_after_completion_gives_the_same_answer(restart):
    async def program(world):
        async with world.open() as runtime:
            first = await runtime.submit("task_0", ASKED, key="a")
            if not restart:
                assert await runtime.submit("task_0", ASKED, key="a") == first
        async with world.open() as runtime:
            assert await runtime.submit("task_0", ASKED, key="a") == first
            assert len(world.frontier.calls) == len(received(world)) == 1

    simulate(program)


@pytest.mark.parametrize("when", ["in flight", "answered", "restarted"])
def test_another_input_under_the_same_key_is_a_conflict(when):
    async def program(world):
        async with world.open() as runtime:
            first = asyncio.create_task(runtime.submit("task_0", ASKED, key="a"))
            if when == "in flight":
                await asyncio.sleep(0)
            else:
                await first
            if when != "restarted":
                with pytest.raises(KeyConflict, match="'a' of task_0"):
                    await runtime.submit("task_0", {"text": "another"}, key="a")
            await first
        async with world.open() as runtime:
            with pytest.raises(KeyConflict):
                await runtime.submit("task_0", {"text": "another"}, key="a")
            assert await runtime.submit("task_0", ASKED, key="a") == await first

    simulate(program)


def test_two_tasks_may_use_the_same_key():
    async def program(world):
        async with world.open() as runtime:
            one, two = [await runtime.submit(f"task_{number}", {"text": f"{number}"}, key="a") for number in (0, 1)]
            assert one.request_id != two.request_id

    simulate(program, Options(tasks=2))


@pytest.mark.parametrize("restart", [False, True])
def test_a_failed_request_may_be_tried_again_under_its_key(restart):
    async def program(world):
        async with world.open() as runtime:
            world.frontier.fail_next(Fault.refusal)
            with pytest.raises(RemoteRefused):
                await runtime.submit("task_0", ASKED, key="a")
            if not restart:
                answer = await runtime.submit("task_0", ASKED, key="a")
        async with world.open() as runtime:
            again = await runtime.submit("task_0", ASKED, key="a")
            assert restart or again == answer
            assert len(world.frontier.calls) == len(received(world)) == 2
            assert (await runtime.explain(again.request_id)).summary.startswith("answered by the remote")

    simulate(program)


def test_a_failed_request_whose_shadow_is_still_busy_may_be_tried_again():
    async def program(world):
        async with world.open() as runtime:
            await world.drive(runtime, Traffic(requests=55, settle=True))
            assert runtime.status("task_0").phase == "reinforcement"
            world.frontier.fail_next(Fault.refusal)
            with pytest.raises(RemoteRefused):
                await runtime.submit("task_0", ASKED, key="a")
            assert runtime._supervisors["task_0"].live
            again = await runtime.submit("task_0", ASKED, key="a")
            assert again == await runtime.submit("task_0", ASKED, key="a")
            await runtime.settled()
            assert again == await runtime.submit("task_0", ASKED, key="a")

    simulate(program, Options(local_latency_s=5.0))


@pytest.mark.parametrize("erased", ["input", "output"])
def test_an_erased_answer_says_so(erased):
    async def program(world):
        async with world.open() as runtime:
            await runtime.submit("task_0", ASKED, key="a")
            events = [one.event() for one in world.memory.scan()]
            kind = v.RequestReceived if erased == "input" else v.ResponseServed
            await world.memory.erase_body(next(getattr(event, erased) for event in events if isinstance(event, kind)))
            with pytest.raises(Erased, match="use a new key"):
                await runtime.submit("task_0", ASKED, key="a")
            await runtime.submit("task_0", ASKED, key="b")

    simulate(program)


def test_callers_who_leave_do_not_take_the_request_with_them():
    async def program(world):
        async with world.open() as runtime:
            for _ in range(5):
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(runtime.submit("task_0", ASKED, key="a"), 0.01)
            result = await runtime.submit("task_0", ASKED, key="a")
            await runtime.settled()
            assert len(world.frontier.calls) == 1
            assert runtime._spend.reservations == {}
            assert (await runtime.submit("task_0", ASKED, key="a")) == result

    simulate(program)
