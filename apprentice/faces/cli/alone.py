"""A runtime in which no model is asked and none is trained: for commands that only put something on record.

No key, no server and no extra is needed for them. Files of a version that shall serve are checked all the same.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from apprentice.config import Config
from apprentice.runtime import Runtime
from apprentice.training.versions import VersionError, check_manifest
from apprentice.wiring import World
from apprentice_actors.ports import (
    LocalAbsent,
    LocalAnswer,
    LocalFailure,
    Question,
    RemoteAnswer,
    RemoteFailure,
    TrainedVersion,
    TrainingJob,
)


@asynccontextmanager
async def alone(config: Config, *, taught: bool = False) -> AsyncIterator[Runtime]:
    """A runtime without a remote model; unless ``taught``, without a local model and a trainer too."""
    world = World(remote=_AbsentRemote(config.remote.provider, config.remote.model))
    if not taught:
        world.local, world.trainer = _AbsentLocal(), _AbsentTrainer()
    async with Runtime.open(config, world=world) as runtime:
        yield runtime


class _AbsentRemote:
    """A remote model that is not asked. Implements :class:`apprentice_actors.ports.RemoteModel`."""

    def __init__(self, provider: str, model: str) -> None:
        self.provider = provider
        self.model = model

    def quote_nd(self, question: Question) -> int:
        """Nothing: no call is made."""
        return 0

    async def answer(self, question: Question, *, timeout_s: float) -> RemoteAnswer:
        """Refuse."""
        raise RemoteFailure("unavailable", f"{self.model} is not asked by this command; use `apprentice run`")

    async def aclose(self) -> None:
        """Nothing is open."""


class _AbsentLocal:
    """A local model that checks files and is not asked. Implements :class:`apprentice_actors.ports.LocalModel`."""

    base: str | None = None

    def __init__(self) -> None:
        self._checked: set[str] = set()

    async def load(self, version: str, folder: Path, manifest_sha256: str | None = None) -> None:
        """Check every file against the manifest."""
        try:
            check_manifest(folder, manifest_sha256)
        except VersionError as error:
            raise LocalFailure(f"{version} cannot be loaded: {error}") from error
        self._checked.add(version)

    async def unload(self, version: str) -> None:
        """Forget a version."""
        self._checked.discard(version)

    def loaded(self) -> frozenset[str]:
        """Those that were checked."""
        return frozenset(self._checked)

    async def answer(self, question: Question, version: str) -> LocalAnswer:
        """Refuse."""
        raise LocalAbsent(f"{version} is not asked by this command")

    async def healthy(self) -> bool:
        """There is no server."""
        return False

    async def aclose(self) -> None:
        """Nothing is open."""


class _AbsentTrainer:
    """Begins nothing: a job that falls due is taken up by the next runtime that has a trainer."""

    async def train(self, job: TrainingJob, progress: Callable[[float, str], None]) -> TrainedVersion:
        """Wait until the command is over."""
        await asyncio.Event().wait()
        raise AssertionError("nobody sets the event")

    async def aclose(self) -> None:
        """Nothing is open."""
