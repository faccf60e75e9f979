"""The local server's desk: versions go when their requests are done, unless they are wanted again."""

import asyncio
from pathlib import Path

import pytest

from apprentice.testing.clock import run_virtual
from apprentice_actors.local import Answer, Drop, Load, LocalDesk, NameBase
from apprentice_actors.ports import LocalAnswer, Question
from apprentice_actors.supervision import Supervisor

QUESTION = Question(task="t", input={})


class Slow:
    """A model whose answers take a second. Implements :class:`apprentice_actors.ports.LocalModel`."""

    base = "base"

    def __init__(self, clock):
        self.clock = clock
        self.held = set()

    async def load(self, version, folder, manifest_sha256=None):
        self.held.add(version)

    async def unload(self, version):
        self.held.discard(version)

    async def answer(self, question, version):
        await self.clock.sleep(1.0)
        assert version in self.held, f"{version} went with a request under way"
        return LocalAnswer(output={}, p_agree=0.5, latency_ms=1000.0)


def at_desk(program):
    async def whole(clock):
        model = Slow(clock)
        async with Supervisor(clock) as scope:
            desk = scope.start("local", lambda ref: LocalDesk(ref, model=model))
            await desk.ask(lambda reply: Load(version="v", folder=Path("x"), manifest_sha256=None, reply=reply), 5.0)
            await program(clock, model, desk)

    run_virtual(whole)


def answer(desk):
    return desk.ask(lambda reply: Answer(question=QUESTION, version="v", reply=reply), 5.0)


def test_a_version_is_dropped_after_its_last_request_with_its_folder(tmp_path):
    (tmp_path / "v1").mkdir()

    async def program(clock, model, desk):
        asked = asyncio.create_task(answer(desk))
        await clock.sleep(0.1)
        desk.tell(Drop(version="v"))
        desk.tell(Drop(version="v", folder=tmp_path / "v1"))
        await clock.sleep(0.5)
        assert model.held == {"v"}
        assert (await asked).p_agree == 0.5
        await clock.sleep(0.1)
        assert model.held == set()
        assert not (tmp_path / "v1").exists()

    at_desk(program)


@pytest.mark.parametrize("wanted_again", [True, False])
def test_a_version_that_is_wanted_again_stays(wanted_again):
    async def program(clock, model, desk):
        asked = asyncio.create_task(answer(desk))
        await clock.sleep(0.1)
        desk.tell(Drop(version="v"))
        await clock.sleep(0.1)
        if wanted_again:
            await desk.ask(lambda reply: Load(version="v", folder=Path("x"), manifest_sha256=None, reply=reply), 5.0)
        await asked
        await clock.sleep(0.1)
        assert model.held == ({"v"} if wanted_again else set())

    at_desk(program)


def test_the_desk_names_the_base():
    async def program(clock, model, desk):
        assert await desk.ask(lambda reply: NameBase(reply=reply), 5.0) == "base"

    at_desk(program)
