"""llama.cpp: adapters are named when its server starts, so a new version means a new server beside the old one.

The new server is started with all adapters and asked once as each of them; then requests go to it, the old one finishes
what it has, and ends. No request waits or fails; for that time the model is in memory twice.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from apprentice.config import LocalConfig
from apprentice.errors import InvalidConfig
from apprentice.local import chat, gguf
from apprentice.local.endpoint import Endpoint, Refused
from apprentice.local.managed import Launch, ManagedServer, free_port
from apprentice.local.opened import Opened
from apprentice.local.served import Lost, ServedModel, object_format
from apprentice.remote.secrets import Secret
from apprentice_actors.ports import JsonObject, LocalFailure, Question

if TYPE_CHECKING:
    from apprentice.local.replies import Reply

PROGRAM = "llama-server"


class _Process:
    """One server process with the adapters that it was started with."""

    def __init__(
        self, endpoint: Endpoint, paths: Mapping[str, Path], launch: Callable[[str, list[Path]], Launch]
    ) -> None:
        self.endpoint = endpoint
        self.paths = dict(paths)
        """The adapters that it has when it is started the next time."""
        self.adapters: dict[str, int] = {}
        """Version to the number of its adapter."""
        self._make_launch = launch
        self.managed = ManagedServer(self._launch, endpoint, _nothing_to_restore)
        self._users = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @asynccontextmanager
    async def use(self) -> AsyncIterator[None]:
        self._users += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._users -= 1
            if not self._users:
                self._idle.set()

    def _launch(self) -> Launch:
        """For the first start, and again when it has died: versions may have gone since, and their files with them."""
        self.adapters = {version: at for at, version in enumerate(self.paths)}
        return self._make_launch(self.endpoint.url, [*self.paths.values()])

    async def end(self, *, drain: bool) -> None:
        if drain:
            await self._idle.wait()
        await self.managed.aclose()
        await self.endpoint.aclose()


class LlamaCppModel(ServedModel):
    """Versions on llama-server processes that are ours: one at a time, two while versions change."""

    server = "llama.cpp"

    def __init__(self, local: LocalConfig) -> None:
        super().__init__(local)
        self._converter = _converter(local)
        self._model = _model_file(local)
        options = local.server
        self._key = Secret.from_env(options.api_key_env) if options.api_key_env is not None else None
        self._process: _Process | None = None
        self._stopped = False
        self._turn_of_processes = asyncio.Lock()
        self._retiring: dict[asyncio.Task[None], _Process] = {}

    async def start(self) -> None:
        """Nothing yet: the first version, or the first question to the base, starts a server."""

    async def attach(self, opened: Opened) -> None:
        """Start a server that has the adapter too, then let it take over."""
        path = await gguf.convert(opened, self._base_model, self._converter)
        async with self._turn_of_processes:
            present = self._process.paths if self._process is not None else {}
            await self._replace({**present, opened.version: path})

    async def detach(self, opened: Opened) -> None:
        """The next server is started without it; until then nobody asks for it."""
        if self._process is not None:
            self._process.paths.pop(opened.version, None)

    async def forget(self, opened: Opened) -> None:
        """The converted adapter goes with the version."""
        await asyncio.to_thread(gguf.discard, opened)

    async def chat(self, question: Question, opened: Opened | None) -> "Reply":
        """One chat completion by the server of the moment."""
        process = self._process
        if process is None and opened is None:
            async with self._turn_of_processes:
                if self._process is None and not self._stopped:
                    await self._replace({})
            process = self._process
        if process is None or (opened is not None and opened.version not in process.adapters):
            raise Lost
        return await self._ask_process(process, question, opened.version if opened is not None else None)

    async def alive(self) -> bool:
        """Whether the server of the moment runs."""
        return self._process is not None and self._process.managed.up

    async def stop(self, held: Sequence[Opened]) -> None:
        """End all servers."""
        async with self._turn_of_processes:
            self._stopped = True
            running = [process for process in (self._process, *self._retiring.values()) if process is not None]
            self._process = None
            for task in self._retiring:
                task.cancel()
            await asyncio.gather(*self._retiring, return_exceptions=True)
            await asyncio.gather(*(process.end(drain=False) for process in running))

    # ------------------------------------------------------------ within

    async def _ask_process(self, process: _Process, question: Question, version: str | None) -> "Reply":
        from apprentice.local.replies import completion

        body: JsonObject = {
            "messages": chat.messages(question),
            "max_tokens": question.max_output_tokens,
            "temperature": 0.0,
            "logprobs": True,
            "top_logprobs": 1,
            "response_format": {"type": "json_schema", "schema": object_format(question)},
            # All of them, also those that are not applied: for an empty list the server goes on from a prompt that it
            # has read with whatever adapter was asked before.
            "lora": [{"id": at, "scale": float(name == version)} for name, at in process.adapters.items()],
        }
        async with process.use():
            return completion(await process.endpoint.post("/v1/chat/completions", body), self.server)

    async def _replace(self, adapters: Mapping[str, Path]) -> None:
        """Start a server with ``adapters``, ask it once as each, switch, let the old one finish."""
        cure = "it has ended and is started again"
        endpoint = Endpoint(self.server, f"http://127.0.0.1:{free_port()}", cure=cure, key=self._key)
        new = _Process(endpoint, adapters, self._launch)
        try:
            await new.managed.start()
            for version in adapters:
                with contextlib.suppress(Refused):  # what matters is that it ran; a bad version shows when it is asked
                    await self._ask_process(new, self._warm_up(version), version)
        except BaseException:
            await asyncio.shield(new.end(drain=False))
            raise
        old, self._process = self._process, new
        if old is not None:
            task = asyncio.create_task(old.end(drain=True), name="a llama.cpp server that finishes")
            self._retiring[task] = old
            task.add_done_callback(self._retiring.pop)

    def _launch(self, url: str, adapters: list[Path]) -> Launch:
        options = self._config.server
        words = [*(options.command or (PROGRAM,)), "--model", str(self._model)]
        words += ["--host", "127.0.0.1", "--port", url.rpartition(":")[2]]
        if options.context is not None:
            words += ["--ctx-size", str(options.context)]
        if options.tensor_parallel > 1:
            words += ["--split-mode", "row"]
        for path in adapters:
            if "," in str(path):
                raise LocalFailure(f"llama.cpp takes a comma for the end of a path: rename the folders of {path}")
            words += ["--lora", str(path)]
        environment = dict(options.environment)
        if options.gpus:
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, options.gpus))
        if self._key is not None:
            environment["LLAMA_API_KEY"] = self._key.reveal()
        return Launch(
            name="the llama.cpp server",
            command=(*words, "--lora-init-without-apply", *options.args),
            environment=environment,
            start_timeout_s=options.start_timeout_s,
            cure="install llama.cpp, or write the words that start its server into local.server.command",
        )


async def _nothing_to_restore() -> None:
    """A server that is started again has the adapters of its command line."""


def _converter(local: LocalConfig) -> Path:
    found = local.server.lora_converter
    if found is None or not found.is_file():
        wrong = "missing" if found is None else f"{found} is no file"
        raise InvalidConfig(
            [f"local.server.lora_converter: {wrong}; write where convert_lora_to_gguf.py of llama.cpp lies"]
        )
    return found


def _model_file(local: LocalConfig) -> Path:
    found = Path(local.server_model or local.base_model or "")
    if not found.is_file():
        raise InvalidConfig(
            [f"local.server_model: {found} is no file; write where the GGUF file of the base model lies"]
        )
    return found
