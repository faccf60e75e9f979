"""The Messages API of Anthropic: what its requests and responses look like.

``usage.input_tokens`` counts only what did not pass through the cache; cache reads and writes stand beside it, and each
has its own price. A refusal or a cut-off answer comes under status 200 and is billed like any other.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated

import httpx
import msgspec

from apprentice.remote.http import HttpModel
from apprentice.remote.images import Image
from apprentice.remote.limits import Allowance, RateLimiter
from apprentice.remote.output_schema import sendable
from apprentice.remote.pricing import Price
from apprentice.remote.prompt import compose, written
from apprentice.remote.rejections import kind_of, rejection
from apprentice.remote.secrets import Secret
from apprentice.remote.wire import NO_HEADERS, Completion, Malformed, Rejection, ToolCall
from apprentice_actors.ports import Clock, JsonObject, Question, Randomness, RemoteFailureKind
from apprentice_events.vocabulary import TokenUsage

PROVIDER = "anthropic"
BASE_URL = "https://api.anthropic.com"
API_VERSION = "2023-06-01"
"""The version of the API under which ``temperature`` still exists; the vendor keeps older versions working."""

type _Count = Annotated[int, msgspec.Meta(ge=0)]


class _CacheCreation(msgspec.Struct, frozen=True):
    ephemeral_5m_input_tokens: _Count = 0
    ephemeral_1h_input_tokens: _Count = 0


class _OutputDetails(msgspec.Struct, frozen=True):
    thinking_tokens: _Count = 0


class _Usage(msgspec.Struct, frozen=True):
    input_tokens: _Count
    output_tokens: _Count
    cache_read_input_tokens: _Count | None = None
    cache_creation_input_tokens: _Count | None = None
    cache_creation: _CacheCreation | None = None
    output_tokens_details: _OutputDetails | None = None
    service_tier: str | None = None


class _Block(msgspec.Struct, frozen=True):
    type: str
    text: str = ""
    name: str = ""
    input: JsonObject = {}


class _StopDetails(msgspec.Struct, frozen=True):
    category: str | None = None
    explanation: str | None = None


class _Message(msgspec.Struct, frozen=True):
    model: str
    content: list[_Block]
    usage: _Usage
    id: str = ""
    stop_reason: str | None = None
    stop_details: _StopDetails | None = None


class _ErrorDetails(msgspec.Struct, frozen=True):
    error_code: str | None = None


class _Error(msgspec.Struct, frozen=True):
    type: str = ""
    message: str = ""
    details: _ErrorDetails | None = None


class _ErrorBody(msgspec.Struct, frozen=True):
    error: _Error = _Error()


_read_message = msgspec.json.Decoder(_Message).decode
_read_error = msgspec.json.Decoder(_ErrorBody).decode

_USAGE_LIMITS = re.compile(r"usage limits?\b|credit balance", re.IGNORECASE)
"""How a 400 says that the organisation's own spend limit, or its prepaid credit, is used up."""
_IMAGE_TOKENS = 5_000
"""An image at the highest resolution that any model reads counts 4,784 tokens."""
_LIMITS = ("requests", "tokens", "input-tokens", "output-tokens")


class MessagesFormat:
    """The Messages API for one model. ``temperature`` None leaves sampling to the provider."""

    provider = PROVIDER
    path = "/v1/messages"
    image_tokens = _IMAGE_TOKENS

    def __init__(
        self,
        model: str,
        api_key: Secret,
        *,
        temperature: float | None = None,
        service_tier: str | None = None,
        api_version: str = API_VERSION,
    ) -> None:
        self._model = model
        self._api_key = api_key
        self._temperature = temperature
        self._service_tier = service_tier
        self._api_version = api_version

    def headers(self) -> dict[str, str]:
        """Headers of every request."""
        return {
            "content-type": "application/json",
            "accept": "application/json",
            "x-api-key": self._api_key.reveal(),
            "anthropic-version": self._api_version,
        }

    def encode(self, question: Question) -> bytes:
        """The request body: system text, examples as earlier turns, the input, and the schema if it can be enforced."""
        return written(question, self._body)

    def _body(self, question: Question) -> JsonObject:
        wanted = None if question.tools else question.output_schema
        schema = None if wanted is None else sendable(wanted)
        prompt = compose(question, schema_is_enforced=schema is not None)
        body: JsonObject = {
            "model": self._model,
            "max_tokens": question.max_output_tokens,
            "system": prompt.system,
            "messages": [
                {"role": role, "content": content}
                for role, content in prompt.messages(("user", "assistant"), _text_part, _image_part)
            ],
        }
        if schema is not None:
            body["output_config"] = {"format": {"type": "json_schema", "schema": schema}}
        if question.tools:
            body["tools"] = [
                {"name": tool["name"], "description": tool["description"], "input_schema": tool["parameters"]}
                for tool in question.tools
            ]
        if self._temperature is not None:
            body["temperature"] = self._temperature
        if self._service_tier is not None:
            body["service_tier"] = self._service_tier
        return body

    def decode(self, body: bytes, headers: Mapping[str, str] = NO_HEADERS) -> Completion:
        """Read a message. Raises :class:`Malformed` for anything else under status 200."""
        try:
            message = _read_message(body)
        except (msgspec.DecodeError, RecursionError) as error:
            raise Malformed(f"the response under status 200 is not a message: {error}") from None
        usage = message.usage
        written_1h = 0 if usage.cache_creation is None else usage.cache_creation.ephemeral_1h_input_tokens
        written_5m = 0 if usage.cache_creation is None else usage.cache_creation.ephemeral_5m_input_tokens
        return Completion(
            id=message.id,
            model=message.model,
            text="".join(block.text for block in message.content if block.type == "text"),
            usage=TokenUsage(
                input_tokens=usage.input_tokens,
                output_tokens=usage.output_tokens,
                cache_read_tokens=usage.cache_read_input_tokens or 0,
                # The two figures are one sum, but a copy of the API may send only one of them.
                cache_write_tokens=max(usage.cache_creation_input_tokens or 0, written_5m + written_1h),
                reasoning_tokens=0
                if usage.output_tokens_details is None
                else usage.output_tokens_details.thinking_tokens,
            ),
            cache_write_1h_tokens=written_1h,
            service_tier=usage.service_tier,
            tool_calls=tuple(
                ToolCall(name=block.name, arguments=block.input)
                for block in message.content
                if block.type == "tool_use"
            ),
            failed=_failed(message),
        )

    def reject(self, status: int, body: bytes) -> Rejection:
        """Tell what an error response means and whether waiting can cure it."""
        try:
            error = _read_error(body).error
        except (msgspec.DecodeError, RecursionError):
            error = _Error()
        return rejection(status, _kind(status, error), (error.type, error.message))

    def allowances(self, headers: Mapping[str, str], now_ns: int) -> dict[str, Allowance]:
        """Read ``anthropic-ratelimit-*``; a limit whose three headers are not all there and sound is left out."""
        found = {}
        for name in _LIMITS:
            prefix = f"anthropic-ratelimit-{name}-"
            try:
                reset = datetime.fromisoformat(headers[prefix + "reset"]).timestamp()
                found[name.replace("-", "_")] = Allowance(
                    limit=float(headers[prefix + "limit"]),
                    remaining=float(headers[prefix + "remaining"]),
                    reset_s=max(0.0, reset - now_ns / 1e9),
                )
            except (KeyError, ValueError):
                continue
        return found


class AnthropicModel(HttpModel):
    """A Claude model behind the Messages API (or a server that copies it, by ``base_url``)."""

    def __init__(
        self,
        model: str,
        api_key: Secret,
        price: Price,
        *,
        limiter: RateLimiter,
        clock: Clock,
        randomness: Randomness,
        base_url: str = BASE_URL,
        max_attempts: int = 5,
        temperature: float | None = None,
        service_tier: str | None = None,
        api_version: str = API_VERSION,
        client: httpx.AsyncClient | None = None,
    ) -> None:
        super().__init__(
            MessagesFormat(model, api_key, temperature=temperature, service_tier=service_tier, api_version=api_version),
            model=model,
            price=price,
            base_url=base_url,
            max_attempts=max_attempts,
            limiter=limiter,
            clock=clock,
            randomness=randomness,
            client=client,
        )


def _failed(message: _Message) -> tuple[RemoteFailureKind, str] | None:
    match message.stop_reason:
        case "end_turn" | "stop_sequence" | None:
            return None
        case "tool_use" if any(block.type == "tool_use" for block in message.content):
            return None
        case "refusal":
            category = message.stop_details.category if message.stop_details else None
            return "refusal", f"the model declined to answer (category: {category or 'not given'})"
        case "max_tokens":
            return "cut_off", "the answer hit the output limit; raise max_output_tokens if answers are that long"
        case "model_context_window_exceeded":
            return "cut_off", "the context window was full before the answer was complete; shorten the input"
        case other:
            return "invalid", f"the message stopped with {other!r} where a finished answer was expected"


def _kind(status: int, error: _Error) -> RemoteFailureKind:
    code = error.details.error_code if error.details else None
    if (code or "").endswith("spend_limit_reached"):
        return "spend_limit"
    if status == 400 and (error.type == "billing_error" or _USAGE_LIMITS.search(error.message)):
        return "spend_limit"
    return kind_of(status)


def _text_part(text: str) -> JsonObject:
    return {"type": "text", "text": text}


def _image_part(image: Image) -> JsonObject:
    if image.url:
        return {"type": "image", "source": {"type": "url", "url": image.url}}
    return {"type": "image", "source": {"type": "base64", "media_type": image.media_type, "data": image.data}}
