"""Erasing a request: the content goes, the chain holds, and who learned from it is known."""

import asyncio
from pathlib import Path

import pytest

from apprentice.errors import DeadlineExceeded, Erased, UnknownRequest
from apprentice.privacy.erasure import landed
from apprentice.testing.clock import VirtualClock, run_virtual
from apprentice.testing.world import Options, Traffic, simulate
from apprentice_events import replay
from apprentice_events import vocabulary as v

LEARNED = Traffic(requests=90, settle=True, gap_s=0.0)


def bodies_of(world, request):
    """The contents that the log still holds of a request."""
    digests = set()
    for record in world.memory.scan():
        event = record.event()
        if getattr(event, "request", None) == request and not isinstance(event, v.BodyErased):
            digests |= {getattr(event, name, None) for name in ("input", "output", "comment")} - {None}
    return asyncio.gather(*(world.memory.get_bodies([digest]) for digest in sorted(digests)))


def erased_events(world):
    return [event for event in (record.event() for record in world.memory.scan()) if isinstance(event, v.BodyErased)]


def test_everything_of_the_request_goes_and_its_student_is_named():
    async def program(world):
        async with world.open() as runtime:
            result = await runtime.submit("task_0", {"text": "mine"}, key="k")
            await runtime.correct(result.request_id, {"category": "bug"})
            await runtime.feedback(result.request_id, 0.5, comment="mine too")
            await world.drive(runtime, LEARNED)
            assert any([*await bodies_of(world, result.request_id)])
            done = await runtime.erase(result.request_id, "asked for")
            assert (done.bodies, done.versions) == (5, ("task_0@v1",))
            assert not any([*await bodies_of(world, result.request_id)])
            assert "task_0@v1 learned from" in runtime.status("task_0").alerts["erased"]
            assert [event.request for event in erased_events(world)] == [result.request_id] * 5
            again = await runtime.erase(result.request_id, "asked again")
            assert (again.bodies, again.versions) == (0, done.versions)
            assert len(erased_events(world)) == 5
            with pytest.raises(Erased):
                await runtime.submit("task_0", {"text": "mine"}, key="k")
            assert (await runtime.explain(result.request_id)).input is None
            assert replay.verify(world.memory).reason == ""
        assert "erased" in [alert for _, alert, _ in world.sink.raised_alerts]

    simulate(program)


def test_a_later_student_does_without_it_and_the_alert_ends_with_the_earlier_ones():
    async def program(world):
        async with world.open() as runtime:
            result = await runtime.submit("task_0", {"text": "mine"})
            await world.drive(runtime, LEARNED)
            await runtime.erase(result.request_id, "asked for")
            for begin in range(1000, 4000, 1000):
                await world.drive(runtime, LEARNED, begin=begin)
                await runtime.operate("task_0", "train")
                await runtime.settled()
            versions = runtime.status("task_0").versions
            kept = {one.name for one in versions if one.status not in ("retired", "rejected")}
            assert "task_0@v1" not in kept
            assert "erased" not in runtime.status("task_0").alerts
        texts = [{row.input["text"] for side in sides for row in side} for sides in world.trainer.datasets]
        assert "mine" in texts[0]
        assert not any("mine" in one for one in texts[1:])

    config = {"local": {"keep_versions": 1, "fine_tune_batch_size": 10_000}}
    simulate(program, Options(config=config, outcomes=("learning", "perfect"), skill=0.6))


def test_a_crash_between_the_promise_and_the_deed_is_made_good():
    async def program(world):
        async with world.open() as runtime:
            result = await runtime.submit("task_0", {"text": "mine"})
            await runtime.settled()

            async def die(digest):
                raise asyncio.CancelledError

            world.log.erase_body, real = die, world.log.erase_body
            with pytest.raises(asyncio.CancelledError):
                await runtime.erase(result.request_id, "asked for")
            world.log.erase_body = real
            assert erased_events(world)
            assert any([*await bodies_of(world, result.request_id)])
        async with world.open():
            assert not any([*await bodies_of(world, result.request_id)])

    simulate(program)


def test_nobody_learned_from_it_where_nothing_was_trained():
    async def program(world):
        async with world.open() as runtime:
            result = await runtime.submit("task_0", {"text": "mine"})
            assert (await runtime.erase(result.request_id, "asked for")).versions == ()
            assert runtime.status("task_0").alerts == {}
            with pytest.raises(UnknownRequest):
                await runtime.erase("req_none", "asked for")

    simulate(program)


def test_a_request_under_way_is_waited_for_but_not_for_ever():
    async def program(clock: VirtualClock):
        await landed("r", iter([True, True, False]).__next__, clock, 60.0)
        with pytest.raises(DeadlineExceeded, match="r is still under way after 60 s"):
            await landed("r", lambda: True, clock, 60.0)

    run_virtual(program)


def stands(folder, file):
    return file.is_file() and folder in file.parents


@pytest.mark.parametrize("outcome", ["perfect", "failing"])
def test_datasets_do_not_outlive_their_training(outcome):
    async def program(world):
        folder = Path(world.config.local.model_dir) / "task_0" / "data"
        seen = []
        train = None

        async def watched(job, progress):
            seen.append(stands(folder, Path(job.train_file)))
            return await train(job, progress)

        async with world.open() as runtime:
            train, world.trainer.train = world.trainer.train, watched
            await world.drive(runtime, LEARNED)
            assert seen
            assert all(seen)
            assert [file for file in folder.rglob("*") if file.is_file()] == []
        (folder / "v9").mkdir(parents=True)  # as a process would leave it that was killed while it trained
        (folder / "v9" / "train.jsonl").write_text("{}")
        async with world.open():
            assert not folder.exists()

    simulate(program, Options(outcomes=(outcome,)))
