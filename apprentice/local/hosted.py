"""Versions that a vendor trained and serves: a fine-tuned model at OpenAI, or at a server that copies its API.

There is nothing to bring to a server; a version is a name. Every answer costs money, which the vendor bills: it is not
reserved and not counted as a remote answer is. Write what an hour of answers costs into ``local.price_per_hour``.
"""

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import msgspec

from apprentice.config import LocalConfig
from apprentice.local import chat
from apprentice.local.endpoint import Endpoint, Refused
from apprentice.local.opened import Opened, open_version, require
from apprentice.local.unread import refuse_unread
from apprentice.remote.openai_api import BASE_URL
from apprentice.remote.output_schema import strict
from apprentice.remote.secrets import Secret
from apprentice_actors.ports import JsonObject, LocalAnswer, LocalFailure, Question

if TYPE_CHECKING:
    from apprentice.local.replies import Reply

HOSTED = "hosted.json"
KEY_VARIABLE = "OPENAI_API_KEY"
_HEALTH_S = 10.0


async def ask(endpoint: Endpoint, question: Question, model: str) -> "Reply":
    """One chat completion in strict structured output. Raises :class:`Refused` and :class:`LocalFailure`."""
    from apprentice.local.replies import completion

    body: JsonObject = {
        "model": model,
        "messages": chat.messages(question),
        "temperature": 0,
        "max_completion_tokens": question.max_output_tokens,
        "logprobs": True,
    }
    wanted = None if question.tools else chat.answer_schema(question)
    schema = strict(wanted) if wanted is not None else None
    if schema is not None:
        named = {"name": "answer", "schema": schema, "strict": True}
        body["response_format"] = {"type": "json_schema", "json_schema": named}
    return completion(await endpoint.post("/chat/completions", body), "the vendor")


class _Hosted(msgspec.Struct, frozen=True):
    """What ``hosted.json`` says: the version's name at the vendor."""

    model: str


class HostedModel:
    """Any number of hosted versions. Implements :class:`apprentice_actors.ports.LocalModel`."""

    def __init__(self, local: LocalConfig, *, client: httpx.AsyncClient | None = None) -> None:
        require(local.backend, "servers", "numpy")
        refuse_unread(local)
        assert local.base_model is not None, "the configuration refuses a hosted model without a base model"
        key = Secret.from_env(local.server.api_key_env or KEY_VARIABLE)
        cure = "check the network and local.server.url"
        self._endpoint = Endpoint("the vendor", local.server.url or BASE_URL, cure=cure, key=key, client=client)
        self._base_model = local.base_model
        self._versions: dict[str, tuple[Opened, str]] = {}
        self._closed = False

    @property
    def base(self) -> None:
        """Nobody set money aside for answers of the untrained model."""

    async def load(self, version: str, folder: Path, manifest_sha256: str | None = None) -> None:
        """Check the folder, and ask the vendor whether it has the model."""
        if self._closed:
            raise LocalFailure(f"{version} cannot be loaded: the connection to the vendor is closed")
        if version in self._versions:
            return
        opened = await asyncio.to_thread(open_version, version, folder, manifest_sha256, self._base_model)
        try:
            model = msgspec.json.decode((folder / HOSTED).read_bytes(), type=_Hosted).model
            await self._endpoint.get(f"/models/{model}")
        except (OSError, msgspec.DecodeError) as error:
            raise LocalFailure(f"{version} cannot be loaded: {folder / HOSTED} cannot be read: {error}") from error
        except Refused as error:
            raise LocalFailure(f"{version} cannot be loaded: the vendor does not have its model: {error}") from error
        self._versions[version] = (opened, model)

    async def unload(self, version: str) -> None:
        """Forget a version; the vendor keeps its model."""
        self._versions.pop(version, None)

    def loaded(self) -> frozenset[str]:
        """The versions that can be asked."""
        return frozenset(self._versions)

    async def answer(self, question: Question, version: str) -> LocalAnswer:
        """Answer with one version, for the vendor's price."""
        if version not in self._versions:
            known = ", ".join(sorted(self._versions)) or "none"
            raise LocalFailure(f"{version} is not loaded (loaded: {known}); load it before asking it")
        opened, model = self._versions[version]
        begun = time.perf_counter()
        try:
            reply = await ask(self._endpoint, question, model)
        except Refused as error:
            raise LocalFailure(f"the vendor refused to answer as {version}: {error}") from error
        if reply.cut_off:
            raise LocalFailure(f"{version} was cut off; raise max_output_tokens if answers are that long")
        output = chat.read(reply.text, question)
        return LocalAnswer(
            output=output,
            p_agree=opened.p_agree(reply.tokens),
            latency_ms=(time.perf_counter() - begun) * 1000.0,
        )

    async def healthy(self) -> bool:
        """Whether the vendor answers."""
        try:
            return not self._closed and await self._endpoint.get("/models", timeout_s=_HEALTH_S) is not None
        except (LocalFailure, Refused):
            return False

    async def aclose(self) -> None:
        """Forget all versions and close the connections."""
        self._closed = True
        self._versions.clear()
        await self._endpoint.aclose()
