"""Ollama: every version is a model of its own, made from the base model's layers and the adapter's.

The name of such a model holds the digest of the version's manifest: whoever else uses the server, and whatever is left
from earlier runs, a name stands for one version.
"""

import asyncio
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import msgspec

from apprentice.config import LocalConfig
from apprentice.local import chat, gguf
from apprentice.local.endpoint import Endpoint, Refused, encoded, shortened
from apprentice.local.opened import Opened
from apprentice.local.served import Lost, ServedModel, object_format
from apprentice.remote.secrets import Secret
from apprentice_actors.ports import JsonObject, LocalFailure, Question

if TYPE_CHECKING:
    from apprentice.local.replies import Reply

URL = "http://127.0.0.1:11434"
ADMIN_S = 600.0
"""The longest that making a model may take."""
KEEP_ALIVE = "1h"
"""How long Ollama keeps a model in memory after a request; it makes room earlier where it must."""
_CONVERTED_BY_SERVER = ("llama", "gemma2")
"""Families whose adapters Ollama converts itself."""
_SAFETENSORS = ("adapter_model.safetensors", "adapter_config.json")


class OllamaModel(ServedModel):
    """Versions on an Ollama server that is somebody else's to start."""

    server = "Ollama"

    def __init__(self, local: LocalConfig, *, client: httpx.AsyncClient | None = None) -> None:
        super().__init__(local)
        options = local.server
        key = Secret.from_env(options.api_key_env) if options.api_key_env is not None else None
        cure = "start it (`ollama serve`), or write its address into local.server.url"
        self._endpoint = Endpoint(self.server, options.url or URL, cure=cure, key=key, client=client)
        self._family: str | None = None

    async def start(self) -> None:
        """Learn the family of the base model."""
        if self._family is None:
            self._family = await self._find_base()

    async def attach(self, opened: Opened) -> None:
        """Send the adapter's files, make a model of base and adapter."""
        adapters = {}
        for path in await self._files(opened):
            content = await asyncio.to_thread(path.read_bytes)
            digest = await asyncio.to_thread(_digest, content)
            adapters[path.name] = digest
            await self._send(digest, content)
        body = {"model": model_name(opened), "from": self._known, "adapters": adapters, "stream": False}
        await self._admin("POST", "/api/create", body)

    async def detach(self, opened: Opened) -> None:
        """Delete the model; one that is gone is gone."""
        try:
            await self._admin("DELETE", "/api/delete", {"model": model_name(opened)})
        except Refused as error:
            if error.status != 404:
                raise

    async def forget(self, opened: Opened) -> None:
        """A converted adapter goes with the version."""
        await asyncio.to_thread(gguf.discard, opened)

    async def chat(self, question: Question, opened: Opened | None) -> "Reply":
        """One chat, greedy, constrained to the schema, with log-probabilities where the server is new enough."""
        options: JsonObject = {
            "temperature": 0.0,
            "num_predict": question.max_output_tokens,
            "repeat_penalty": 1.0,  # its default punishes names and braces that an answer has to repeat
        }
        if self._config.server.context is not None:
            options["num_ctx"] = self._config.server.context
        body: JsonObject = {
            "model": model_name(opened) if opened is not None else self._known,
            "messages": chat.messages(question),
            "format": object_format(question),
            "stream": False,
            "think": False,  # a model that thinks would do so first, and not keep to the schema
            "truncate": False,  # a prompt that does not fit is an error, not a shorter prompt
            "shift": False,
            "keep_alive": KEEP_ALIVE,
            "logprobs": True,
            "options": options,
        }
        try:
            return _reply(_checked(await self._endpoint.post("/api/chat", body)))
        except Refused as error:
            if error.status == 404 and opened is not None:
                raise Lost from error
            raise

    async def alive(self) -> bool:
        """Whether it tells its version."""
        try:
            await self._endpoint.get("/api/version", timeout_s=5.0)
        except (LocalFailure, Refused):
            return False
        return True

    async def stop(self, held: Sequence[Opened]) -> None:
        """Close the connections. The models stay: they are found again under their names."""
        await self._endpoint.aclose()

    # ------------------------------------------------------------ within

    async def _find_base(self) -> str:
        """The family of the base model. Raises :class:`LocalFailure` if the server does not have it."""
        try:
            shown = await self._admin("POST", "/api/show", {"model": self._known})
        except Refused as error:
            if error.status != 404:
                raise LocalFailure(f"Ollama does not show {self._known}: {error}") from error
            raise LocalFailure(
                f"Ollama has no model {self._known}: run `ollama pull {self._known}`, or write its name there into "
                "local.server_model"
            ) from error
        found: Any = shown.get("details") if isinstance(shown, dict) else None
        return str(found.get("family") or "") if isinstance(found, dict) else ""

    async def _files(self, opened: Opened) -> list[Path]:
        if self._family in _CONVERTED_BY_SERVER:
            return [opened.folder / name for name in _SAFETENSORS]
        converter = self._config.server.lora_converter
        if converter is None:
            raise LocalFailure(
                f"Ollama converts no adapters of the family {self._family or 'of this base'}: write where llama.cpp's "
                "convert_lora_to_gguf.py lies into local.server.lora_converter"
            )
        return [await gguf.convert(opened, self._base_model, converter)]

    async def _send(self, digest: str, content: bytes) -> None:
        path = f"/api/blobs/{digest}"
        try:
            await self._endpoint.call("HEAD", path, timeout_s=ADMIN_S)
        except Refused as error:
            if error.status != 404:
                raise
            await self._endpoint.call("POST", path, content=content, timeout_s=ADMIN_S)

    async def _admin(self, method: str, path: str, body: JsonObject) -> Any:
        response = await self._endpoint.call(method, path, content=encoded(body), timeout_s=ADMIN_S)
        try:
            said = msgspec.json.decode(response.content) if response.content else None
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise LocalFailure(f"Ollama sent something for {path} that is not JSON") from None
        return _checked(said)


def model_name(opened: Opened) -> str:
    """The model that stands for a version: ``apprentice-TASK:vN-DIGEST``."""
    task, _, number = opened.version.rpartition("@")
    return f"apprentice-{task}:{number}-{opened.manifest_sha256[:12]}"


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _checked(said: Any) -> Any:
    """Ollama reports what goes wrong on the way as ``{"error"}`` under status 200."""
    if isinstance(said, dict) and said.get("error"):
        raise Refused(200, shortened(said["error"]))
    return said


def _reply(said: Any) -> "Reply":
    from apprentice.local.replies import Reply, TokenLogprob, tokens

    try:
        text = said["message"]["content"]
        written = msgspec.convert(said.get("logprobs") or [], list[TokenLogprob])
    except (KeyError, TypeError, msgspec.ValidationError) as error:
        raise LocalFailure(f"Ollama sent something that is not a chat response ({type(error).__name__})") from None
    if not isinstance(text, str):
        raise LocalFailure("Ollama sent a chat response without a text")
    return Reply(text=text, tokens=tokens(written), cut_off=said.get("done_reason") == "length")
