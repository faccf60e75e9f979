"""The local server's turn-taking: versions come and go while requests are in flight, and none of them notices."""

import asyncio
import logging
import shutil
from collections import Counter
from pathlib import Path

import msgspec

from .actor import Actor, ActorRef, Reply
from .ports import LocalAnswer, LocalFailure, LocalModel, Question

logger = logging.getLogger(__name__)


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """Ask: let a loaded version answer. Fails with :class:`LocalFailure`."""

    question: Question
    version: str
    reply: Reply[LocalAnswer]


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """Ask: hold a version, checked and warmed up. Fails with :class:`LocalFailure`."""

    version: str
    folder: Path
    manifest_sha256: str | None
    """As the log has it, so that no other files can stand in."""
    reply: Reply[None]


class Drop(msgspec.Struct, frozen=True, kw_only=True):
    """Tell: unload a version once its requests are done; ``folder`` is deleted too where it is given."""

    version: str
    folder: Path | None = None


class NameBase(msgspec.Struct, frozen=True, kw_only=True):
    """Ask: under which name the untrained base model answers; None where there is none."""

    reply: Reply[str | None]


type LocalMessage = Answer | Load | Drop | NameBase


class LocalDesk(Actor[LocalMessage]):
    """One local server. Answering runs beside everything; loading and dropping take turns."""

    def __init__(self, ref: ActorRef[LocalMessage], *, model: LocalModel) -> None:
        super().__init__(ref)
        self._model = model
        self._in_flight: Counter[str] = Counter()
        self._drained = asyncio.Condition()
        self._changing = asyncio.Lock()
        self._asked_for: Counter[str] = Counter()
        """How often each version was to be loaded: one that is wanted again does not go after its last request."""

    async def receive(self, batch: list[LocalMessage]) -> None:
        """Start what is asked; each answers for itself."""
        for message in batch:
            match message:
                case Answer():
                    self._in_flight[message.version] += 1
                    self.spawn(self._answer(message))
                case Load():
                    self._asked_for[message.version] += 1
                    self.spawn(self._load(message))
                case Drop():
                    self.spawn(self._drop(message, self._asked_for[message.version]))
                case NameBase():
                    message.reply.set(self._model.base)

    async def _answer(self, message: Answer) -> None:
        try:
            message.reply.set(await self._model.answer(message.question, message.version))
        except LocalFailure as failure:
            message.reply.fail(failure)
        except Exception as error:  # a defect in a backend is a failure of this answer, not of the server
            logger.exception("%s failed to answer", message.version)
            message.reply.fail(LocalFailure(f"{message.version} failed to answer: {error!r}"))
        finally:
            self._in_flight[message.version] -= 1
            if not self._in_flight[message.version]:
                del self._in_flight[message.version]
                async with self._drained:
                    self._drained.notify_all()

    async def _load(self, message: Load) -> None:
        async with self._changing:
            try:
                await self._model.load(message.version, message.folder, message.manifest_sha256)
            except LocalFailure as failure:
                message.reply.fail(failure)
            except Exception as error:
                logger.exception("%s failed to load", message.version)
                message.reply.fail(LocalFailure(f"{message.version} failed to load: {error!r}"))
            else:
                message.reply.set(None)

    async def _drop(self, message: Drop, asked_for: int) -> None:
        async with self._drained:
            await self._drained.wait_for(lambda: message.version not in self._in_flight)
        async with self._changing:
            if self._asked_for[message.version] != asked_for:
                return
            await self._model.unload(message.version)
            if message.folder is not None:
                shutil.rmtree(message.folder, ignore_errors=True)
