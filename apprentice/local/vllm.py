"""vLLM: one base model, LoRA adapters that come and go by name while it answers.

vLLM keeps what it computed under a name. A name is therefore never loaded in place, and the one that a version has
there holds the digest of its manifest: whatever else is or was on the server, a name stands for one set of weights.
"""

import asyncio
import contextlib
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from apprentice.config import LocalConfig
from apprentice.local import chat
from apprentice.local.endpoint import Endpoint, Refused, encoded
from apprentice.local.managed import Launch, ManagedServer, free_port
from apprentice.local.opened import Opened
from apprentice.local.served import Lost, ServedModel, object_format
from apprentice.remote.secrets import Secret
from apprentice_actors.ports import JsonObject, LocalFailure, Question

if TYPE_CHECKING:
    from apprentice.local.replies import Reply

URL = "http://127.0.0.1:8000"
PARTING_S = 5.0
ADMIN_S = 120.0
"""The longest that loading an adapter may take."""


class VllmModel(ServedModel):
    """Versions on a vLLM server, ours (``managed``) or somebody else's."""

    server = "vLLM"

    def __init__(self, local: LocalConfig, *, client: httpx.AsyncClient | None = None) -> None:
        super().__init__(local)
        options = local.server
        key = Secret.from_env(options.api_key_env) if options.api_key_env is not None else None
        chosen = f"http://127.0.0.1:{free_port()}" if options.managed else URL
        url = (options.url or chosen).rstrip("/").removesuffix("/v1")
        self._endpoint = Endpoint(self.server, url, cure=_cure(local), key=key, client=client)
        self._managed = (
            ManagedServer(lambda: launch(local, url, key), self._endpoint, self._seats.restore)
            if options.managed
            else None
        )
        self._longest: int | None = None

    async def start(self) -> None:
        """Start the server if it is ours; learn how long an answer may be."""
        if self._managed is not None:
            await self._managed.start()
        if self._longest is None:
            self._longest = await self._find_base()

    async def attach(self, opened: Opened) -> None:
        """Load the adapter. One that is there already is left from an earlier run of ours."""
        path = str(self._seen_by_server(opened.folder))
        try:
            await self._load(opened, path)
        except Refused as error:
            if error.status != 400:
                raise
            loaded_from = await self._loaded_from(adapter_name(opened))
            if loaded_from is None:
                raise
            if loaded_from != path:  # the same weights, but vLLM reads them again now and then
                await self.detach(opened)
                await self._load(opened, path)

    async def detach(self, opened: Opened) -> None:
        """Unload the adapter; one that is gone is gone."""
        body = {"lora_name": adapter_name(opened)}
        try:
            await self._endpoint.call("POST", "/v1/unload_lora_adapter", content=encoded(body), timeout_s=ADMIN_S)
        except Refused as error:
            if error.status != 404:
                raise

    async def forget(self, opened: Opened) -> None:
        """Nothing was made of it."""

    async def chat(self, question: Question, opened: Opened | None) -> "Reply":
        """One chat completion, greedy, constrained to the schema, with the log-probability of each token."""
        from apprentice.local.replies import completion

        longest = min(question.max_output_tokens, self._longest or question.max_output_tokens)
        body: JsonObject = {
            "model": adapter_name(opened) if opened is not None else self._known,
            "messages": chat.messages(question),
            "max_tokens": longest,
            "temperature": 0.0,
            "repetition_penalty": 1.0,  # else that of the base model's own settings, which are for chatting
            "logprobs": True,
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "answer", "schema": object_format(question)},
            },
        }
        try:
            return completion(await self._endpoint.post("/v1/chat/completions", body), self.server)
        except Refused as error:
            if error.status == 404 and opened is not None:
                raise Lost from error
            raise

    async def alive(self) -> bool:
        """Whether ``/health`` answers."""
        try:
            await self._endpoint.call("GET", "/health", timeout_s=5.0)
        except (LocalFailure, Refused):
            return False
        return True

    async def stop(self, held: Sequence[Opened]) -> None:
        """End our own server, or leave somebody else's without our versions; close the connections."""
        if self._managed is not None:
            await self._managed.aclose()
        else:
            with contextlib.suppress(LocalFailure, Refused, TimeoutError):
                async with asyncio.timeout(PARTING_S):
                    for opened in held:
                        await self.detach(opened)
        await self._endpoint.aclose()

    async def _load(self, opened: Opened, path: str) -> None:
        body = {"lora_name": adapter_name(opened), "lora_path": path}
        try:
            await self._endpoint.call("POST", "/v1/load_lora_adapter", content=encoded(body), timeout_s=ADMIN_S)
        except Refused as error:
            if error.status == 404 and error.said == "Not Found":
                raise LocalFailure(
                    "vLLM has no routes for adapters: start it with --enable-lora and the environment variable "
                    "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True"
                ) from error
            if error.status == 404:
                raise LocalFailure(
                    f"vLLM finds no adapter at {path} ({error.said}); write where it sees our `model_dir` into "
                    "local.server.model_dir"
                ) from error
            raise

    async def _find_base(self) -> int | None:
        """The longest text of the served base model in tokens. Raises :class:`LocalFailure` if it is another model."""
        models = await self._models()
        mine = next((each for each in models if each.get("id") == self._known), None)
        if mine is None:
            served = ", ".join(str(each.get("id")) for each in models if not each.get("parent")) or "no model"
            raise LocalFailure(
                f"vLLM serves {served}, not {self._known}; write its name for the base model into local.server_model"
            )
        longest = mine.get("max_model_len")
        return longest if isinstance(longest, int) else None

    async def _loaded_from(self, name: str) -> str | None:
        """The folder from which an adapter of this name was loaded."""
        found = next((each for each in await self._models() if each.get("id") == name), {})
        root = found.get("root")
        return str(root) if root is not None else None

    async def _models(self) -> list[JsonObject]:
        try:
            listed: Any = await self._endpoint.get("/v1/models", timeout_s=ADMIN_S)
        except Refused as error:
            raise LocalFailure(f"vLLM does not list its models: {error}") from error
        data = listed.get("data") if isinstance(listed, dict) else None
        return [each for each in data or () if isinstance(each, dict)]

    def _seen_by_server(self, folder: Path) -> Path:
        """Where the server sees a folder that lies under ``model_dir`` here."""
        elsewhere = self._config.server.model_dir
        if elsewhere is None:
            return folder.resolve()
        try:
            return elsewhere / folder.resolve().relative_to(self._config.model_dir.resolve())
        except ValueError:
            return folder.resolve()


def adapter_name(opened: Opened) -> str:
    """The name of a version on the server: ``TASK@vN-DIGEST``."""
    return f"{opened.version}-{opened.manifest_sha256[:12]}"


def _cure(local: LocalConfig) -> str:
    if local.server.managed:
        return "it is being started, or has ended and is started again"
    return "start it there, write its address into local.server.url, or write `managed: true` to have it started"


def launch(local: LocalConfig, url: str, key: Secret | None) -> Launch:
    """How the server is started: the configured command, or one made from the keys."""
    options = local.server
    environment = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True", **_keys(key), **options.environment}
    if options.gpus:
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, options.gpus))
    return Launch(
        name="the vLLM server",
        command=options.command or _command(local, url),
        environment=environment,
        start_timeout_s=options.start_timeout_s,
        cure="install vLLM, or write its command into local.server.command",
    )


def _keys(key: Secret | None) -> dict[str, str]:
    return {"VLLM_API_KEY": key.reveal()} if key is not None else {}


def _command(local: LocalConfig, url: str) -> tuple[str, ...]:
    options = local.server
    base = local.base_model
    assert base is not None, "the configuration refuses a server without a base model"
    target = httpx.URL(url)
    words = [_program("vllm"), "serve", base, "--host", target.host, "--port", str(target.port or 80)]
    words += ["--enable-lora", "--max-loras", str(options.adapter_slots)]
    words += ["--max-cpu-loras", str(options.adapter_slots), "--max-lora-rank", str(_rank(local.training.rank))]
    words += ["--dtype", local.dtype]
    if local.server_model is not None:
        words += ["--served-model-name", local.server_model]
    if options.tensor_parallel > 1:
        words += ["--tensor-parallel-size", str(options.tensor_parallel)]
    if options.context is not None:
        words += ["--max-model-len", str(options.context)]
    if local.quantization != "none":
        words += _quantized(local.quantization)
    return (*words, *options.args)


def _quantized(kind: str) -> list[str]:
    """bitsandbytes quantizes while it loads, to four bits; eight are what vLLM calls fp8."""
    return ["--quantization", "bitsandbytes" if kind == "4bit" else "fp8"]


def _rank(rank: int) -> int:
    """vLLM knows some ranks only; the next larger one holds ours."""
    known = (1, 8, 16, 32, 64, 128, 256, 320, 512)
    return next((each for each in known if each >= rank), rank)


def _program(name: str) -> str:
    """The program of this environment, where it has one, else the one on the path."""
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.exists() else (shutil.which(name) or name)
