"""Versions behind a server that speaks HTTP: what vLLM, Ollama and llama.cpp have in common.

Loading is: check every file, bring the version to the server, ask it once in the form in which it will be asked. Which
versions the server holds at a time is the business of :class:`~apprentice.local.seats.Seats`: a version that had to
make room comes back when it is asked, from its folder, checked again.
"""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from apprentice.config import LocalConfig
from apprentice.local import chat
from apprentice.local.endpoint import Refused
from apprentice.local.opened import NOT_MEASURED, Opened, open_version, require
from apprentice.local.seats import Seat, Seats
from apprentice.local.unread import refuse_unread
from apprentice_actors.ports import JsonObject, LocalAnswer, LocalFailure, Question

if TYPE_CHECKING:
    from apprentice.local.replies import Reply

BASE = "base"
"""The name under which the untrained base model is asked; versions have an ``@`` in theirs."""
_WARM_UP_TOKENS = 16


class Lost(Exception):
    """The server does not know a version that was brought to it: it began anew, or somebody removed it."""


class ServedModel(ABC):
    """The shared part. Implements :class:`apprentice_actors.ports.LocalModel`."""

    server: str
    """What messages call the server, such as ``vLLM``."""

    def __init__(self, local: LocalConfig) -> None:
        require(local.backend, "servers", "numpy")
        refuse_unread(local)
        assert local.base_model is not None, "the configuration refuses a server without a base model"
        self._config = local
        self._base_model = local.base_model
        self._known = local.server_model or local.base_model
        self._seats = Seats(local.server.adapter_slots, self._bring, self._remove)
        self._versions: dict[str, Opened] = {}
        self._loading: dict[str, Opened] = {}
        self._pinned: dict[str, str] = {}  # a name stands for one manifest, also after it was unloaded
        self._asked: dict[str, Question] = {}  # by task, how it is asked: never what
        self._turn = asyncio.Lock()
        self._begun = False
        self._closed = False

    # ------------------------------------------------------------ what each server does in its own way

    @abstractmethod
    async def attach(self, opened: Opened) -> None:
        """Bring a version to the server. Raises :class:`LocalFailure`."""

    @abstractmethod
    async def detach(self, opened: Opened) -> None:
        """Take a version from the server. Raises :class:`LocalFailure`."""

    @abstractmethod
    async def forget(self, opened: Opened) -> None:
        """A version that was taken from the server will not come back: remove what was made of it."""

    @abstractmethod
    async def chat(self, question: Question, opened: Opened | None) -> "Reply":
        """Ask a version, None for the base. Raises :class:`Lost`, :class:`Refused` and :class:`LocalFailure`."""

    @abstractmethod
    async def start(self) -> None:
        """See to it that the server runs, if that is for us to do. Raises :class:`LocalFailure`."""

    @abstractmethod
    async def alive(self) -> bool:
        """Whether the server responds."""

    @abstractmethod
    async def stop(self, held: Sequence[Opened]) -> None:
        """Close the connections, and end a server that was started here. ``held`` are the versions on it."""

    # ------------------------------------------------------------ the port

    @property
    def base(self) -> str:
        """The base model can be asked as it came."""
        return BASE

    async def load(self, version: str, folder: Path, manifest_sha256: str | None = None) -> None:
        """Check every file, bring the version to the server, ask it once."""
        async with self._turn:
            self._refuse_if_closed(version)
            if version in self._versions:
                return
            opened = await self._open(version, folder, manifest_sha256)
            await self._begin()
            self._loading[version] = opened
            try:
                await self._ask(self._warm_up(version), version)
            except LocalFailure as error:
                await self._seats.leave(version)
                raise LocalFailure(f"{version} cannot be loaded: {error}") from error
            except BaseException:
                await self._seats.leave(version)
                raise
            else:
                self._refuse_if_closed(version)
                self._versions[version] = opened
                self._pinned[version] = opened.manifest_sha256
            finally:
                del self._loading[version]

    async def unload(self, version: str) -> None:
        """Forget a version and take it from the server, once its requests are done."""
        async with self._turn:
            opened = self._versions.pop(version, None)
            if opened is not None:
                self._loading[version] = opened
                try:
                    await self._seats.leave(version)
                    await self.forget(opened)
                finally:
                    del self._loading[version]

    def loaded(self) -> frozenset[str]:
        """The versions that can be asked, on the server at the moment or not."""
        return frozenset(self._versions)

    async def answer(self, question: Question, version: str) -> LocalAnswer:
        """Answer with one version, or with the base. ``latency_ms`` includes waiting for a place on the server."""
        opened = self._versions.get(version)
        if opened is None and (version != BASE or self._closed):
            known = ", ".join(sorted(self._versions)) or "none"
            raise LocalFailure(f"{version} is not loaded (loaded: {known}); load it before asking it")
        begun = time.perf_counter()
        if opened is not None:
            self._asked[question.task] = _emptied(question)
        elif not self._begun:
            await self._begin()
        reply = await self._ask(question, version)
        if reply.cut_off:
            raise LocalFailure(
                f"{version} was cut off after {len(reply.text)} characters; raise max_output_tokens, or "
                "local.server.context, if answers are that long"
            )
        output = chat.read(reply.text, question)
        p_agree = NOT_MEASURED if opened is None else opened.p_agree(reply.tokens)
        return LocalAnswer(output=output, p_agree=p_agree, latency_ms=(time.perf_counter() - begun) * 1000.0)

    async def healthy(self) -> bool:
        """Whether the server responds. Asking starts nothing."""
        return not self._closed and await self.alive()

    async def aclose(self) -> None:
        """Forget all versions; a server that was started here ends."""
        if self._closed:
            return
        self._closed = True
        held = [opened for version, opened in self._versions.items() if version in self._seats.held]
        self._versions.clear()
        await self._seats.close()
        await self.stop(held)

    # ------------------------------------------------------------ within

    async def _begin(self) -> None:
        await self.start()
        self._begun = True

    async def _open(self, version: str, folder: Path, manifest_sha256: str | None) -> Opened:
        opened = await asyncio.to_thread(open_version, version, folder, manifest_sha256, self._base_model)
        if self._pinned.get(version, opened.manifest_sha256) != opened.manifest_sha256:
            raise LocalFailure(
                f"{version} was loaded before with other files; a name is never used twice: train a new version"
            )
        return opened

    async def _ask(self, question: Question, version: str) -> "Reply":
        try:
            if version == BASE:
                return await self.chat(question, None)
            async with self._seats.hold(version) as seat:
                return await self._ask_seated(question, version, seat)
        except Lost as error:
            raise LocalFailure(f"{self.server} does not know {version}, though it was brought to it twice") from error
        except Refused as error:
            raise LocalFailure(f"{self.server} refused to answer as {version}: {error}") from error

    async def _ask_seated(self, question: Question, version: str, seat: Seat) -> "Reply":
        opened, arrivals = self._opened(version), seat.arrivals
        try:
            return await self.chat(question, opened)
        except Lost:
            await self._seats.bring_again(version, seat, arrivals)
            return await self.chat(question, opened)

    def _opened(self, version: str) -> Opened:
        opened = self._versions.get(version) or self._loading.get(version)
        if opened is None:
            raise LocalFailure(f"{version} is not loaded any more; load it before asking it")
        return opened

    async def _bring(self, version: str) -> None:
        opened = self._opened(version)
        if version in self._versions:  # it comes back: what lies there now must be what was loaded
            opened = await self._open(version, opened.folder, opened.manifest_sha256)
        try:
            await self.attach(opened)
        except Refused as error:
            raise LocalFailure(f"{self.server} does not take {version}: {error}") from error

    async def _remove(self, version: str) -> None:
        try:
            await self.detach(self._opened(version))
        except Refused as error:
            raise LocalFailure(f"{self.server} does not let go of {version}: {error}") from error

    def _warm_up(self, version: str) -> Question:
        """The task's question with nothing in it: it compiles the grammar and reads the common part of the prompt."""
        task = version.rpartition("@")[0]
        known = self._asked.get(task, Question(task=task, input={}))
        return msgspec.structs.replace(known, max_output_tokens=_WARM_UP_TOKENS)

    def _refuse_if_closed(self, version: str) -> None:
        if self._closed:
            raise LocalFailure(f"{version} cannot be loaded: the connection to {self.server} is closed")


def _emptied(question: Question) -> Question:
    return msgspec.structs.replace(question, input={}, examples=(), image_fields=())


def object_format(question: Question) -> JsonObject:
    """The JSON Schema that a server is to constrain the answer to; of any object where the task has none."""
    return chat.answer_schema(question) or {"type": "object"}
