"""Small models inside this process, by transformers and PEFT: no server, and the speed of one process.

All requests that wait for one version are answered together, up to ``batch_size``; versions take turns. The work is
done in a thread of its own.
"""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from apprentice.config import LocalConfig
from apprentice.local import chat
from apprentice.local.opened import NOT_MEASURED, Opened, open_version, require
from apprentice.local.served import BASE
from apprentice.local.unread import refuse_unread
from apprentice_actors.ports import LocalAnswer, LocalFailure, Question

if TYPE_CHECKING:
    from apprentice.local.generating import Generator
    from apprentice.local.replies import Reply

_WARM_UP_TOKENS = 4

type _Waiting = list[tuple[Question, asyncio.Future["Reply"]]]


class TransformersModel:
    """Any number of versions on one base model. Implements :class:`apprentice_actors.ports.LocalModel`."""

    def __init__(self, local: LocalConfig) -> None:
        require(local.backend, "train", "torch", "transformers", "peft", "accelerate", "numpy")
        refuse_unread(local)
        assert local.base_model is not None, "the configuration refuses this backend without a base model"
        self._config = local
        self._base_model = local.base_model
        self._generator: Generator | None = None
        self._versions: dict[str, Opened] = {}
        self._waiting: dict[str, _Waiting] = {}  # who has waited longest first
        self._pump: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="transformers")
        self._closed = False

    @property
    def base(self) -> str:
        """The base model can be asked as it came."""
        return BASE

    async def load(self, version: str, folder: Path, manifest_sha256: str | None = None) -> None:
        """Check every file, load the adapter, and the base model if it is the first; answer once."""
        async with self._turn:
            if self._closed:
                raise LocalFailure(f"{version} cannot be loaded: the model is closed")
            if version in self._versions:
                return
            opened = await asyncio.to_thread(open_version, version, folder, manifest_sha256, self._base_model)
            await self._in_thread(self._add, opened)
            if self._closed:
                raise LocalFailure(f"{version} cannot be loaded: the model was closed")
            self._versions[version] = opened

    async def unload(self, version: str) -> None:
        """Forget a version."""
        async with self._turn:
            if self._versions.pop(version, None) is not None and self._generator is not None:
                await self._in_thread(self._generator.remove, version)

    def loaded(self) -> frozenset[str]:
        """The versions that can be asked."""
        return frozenset(self._versions)

    async def answer(self, question: Question, version: str) -> LocalAnswer:
        """Answer together with the others that wait for this version. ``latency_ms`` includes waiting."""
        opened = self._versions.get(version)
        if opened is None and (version != BASE or self._closed):
            known = ", ".join(sorted(self._versions)) or "none"
            raise LocalFailure(f"{version} is not loaded (loaded: {known}); load it before asking it")
        begun = time.perf_counter()
        waiter: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(version, []).append((question, waiter))
        if self._pump is None or self._pump.done():
            self._pump = asyncio.create_task(self._answer_waiting(), name="transformers")
        reply = await waiter
        if reply.cut_off:
            raise LocalFailure(
                f"{version} was cut off after {len(reply.text)} characters; raise max_output_tokens if answers are "
                "that long"
            )
        output = chat.read(reply.text, question)
        p_agree = NOT_MEASURED if opened is None else opened.p_agree(reply.tokens)
        return LocalAnswer(output=output, p_agree=p_agree, latency_ms=(time.perf_counter() - begun) * 1000.0)

    async def healthy(self) -> bool:
        """Whether it is open: there is no server that could be down."""
        return not self._closed

    async def aclose(self) -> None:
        """Forget all versions and end the thread; whoever waits gets a failure."""
        if self._closed:
            return
        self._closed = True
        self._versions.clear()
        if self._pump is not None:
            self._pump.cancel()
            await asyncio.gather(self._pump, return_exceptions=True)
        for waiting in self._waiting.values():
            _fail(waiting, LocalFailure("the model was closed"))
        self._waiting.clear()
        self._thread.shutdown(wait=False)
        self._generator = None

    async def _answer_waiting(self) -> None:
        """Batch after batch, until nobody waits; versions in turn."""
        while self._waiting:
            version = next(iter(self._waiting))
            waiting = [each for each in self._waiting.pop(version) if not each[1].done()]
            batch, rest = waiting[: self._config.batch_size], waiting[self._config.batch_size :]
            if rest:
                self._waiting[version] = rest
            if batch:
                await self._answer_batch(batch, version)

    async def _answer_batch(self, batch: _Waiting, version: str) -> None:
        try:
            replies = await self._in_thread(self._write, [question for question, _ in batch], version)
        except LocalFailure as failure:
            _fail(batch, failure)
        except asyncio.CancelledError:
            _fail(batch, LocalFailure("the model was closed"))
            raise
        except Exception as error:  # out of memory, a defect of a kernel: a failure of these answers
            _fail(batch, LocalFailure(f"{version} could not answer: {type(error).__name__}: {error}"))
        else:
            for (_, waiter), reply in zip(batch, replies, strict=True):
                if waiter.done():
                    continue
                if isinstance(reply, LocalFailure):
                    waiter.set_exception(reply)
                else:
                    waiter.set_result(reply)

    async def _in_thread[*A, T](self, call: Callable[[*A], T], *args: *A) -> T:
        if self._closed:
            raise LocalFailure("the model was closed")
        return await asyncio.get_running_loop().run_in_executor(self._thread, call, *args)

    def _add(self, opened: Opened) -> None:
        generator = self._loaded_base()
        generator.add(opened.version, opened.folder)
        task = opened.version.rpartition("@")[0]
        try:
            generator.answer([Question(task=task, input={}, max_output_tokens=_WARM_UP_TOKENS)], opened.version)
        except Exception as error:
            generator.remove(opened.version)
            raise LocalFailure(f"{opened.version} could not answer: {type(error).__name__}: {error}") from error

    def _write(self, questions: list[Question], version: str) -> "list[Reply | LocalFailure]":
        if version != BASE and version not in self._versions:
            raise LocalFailure(f"{version} is not loaded any more; load it before asking it")
        return self._loaded_base().answer(questions, None if version == BASE else version)

    def _loaded_base(self) -> "Generator":
        from apprentice.local.generating import Generator

        if self._generator is None:
            local = self._config
            self._generator = Generator(
                self._base_model,
                dtype=local.dtype,
                device_map=local.device_map,
                quantization=local.quantization,
                context=local.server.context,
            )
        return self._generator


def _fail(batch: _Waiting, failure: LocalFailure) -> None:
    for _, waiter in batch:
        if not waiter.done():
            waiter.set_exception(failure)
