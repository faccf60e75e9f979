"""Chat Completions: the format of OpenAI that most other servers copy.

``usage.prompt_tokens`` includes what was read from and written to the cache, and reasoning is part of
``completion_tokens``. A refusal stands in a field of its own; a cut-off answer has the finish reason ``length``.
"""

from collections.abc import Mapping
from decimal import ROUND_CEILING, Decimal

import msgspec

from apprentice.remote import openai_api as api
from apprentice.remote.images import Image
from apprentice.remote.limits import Allowance
from apprentice.remote.openai_api import Count, Server
from apprentice.remote.prompt import compose, written
from apprentice.remote.secrets import Secret
from apprentice.remote.wire import NO_HEADERS, Completion, Malformed, Rejection, ToolCall
from apprentice_actors.ports import JsonObject, Question, RemoteFailureKind
from apprentice_events.vocabulary import TokenUsage

PATH = "/chat/completions"
OPENAI = Server(provider="openai", path=PATH)
COMPATIBLE = Server(provider="openai_compatible", path=PATH, limit_field="max_tokens", json_mode=False)
"""Older and smaller servers know the output limit under its first name only, and JSON only with a schema."""


class _PromptDetails(msgspec.Struct, frozen=True):
    cached_tokens: Count | None = None
    cache_write_tokens: Count | None = None


class _CompletionDetails(msgspec.Struct, frozen=True):
    reasoning_tokens: Count | None = None


class _CostDetails(msgspec.Struct, frozen=True):
    upstream_inference_cost: Decimal | None = None


class _Usage(msgspec.Struct, frozen=True):
    prompt_tokens: Count
    completion_tokens: Count
    total_tokens: Count = 0
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None
    cost: Decimal | None = None
    is_byok: bool = False
    cost_details: _CostDetails | None = None


class _Function(msgspec.Struct, frozen=True):
    name: str = ""
    arguments: str = ""


class _Call(msgspec.Struct, frozen=True):
    function: _Function = _Function()


class _Message(msgspec.Struct, frozen=True):
    content: str | None = None
    refusal: str | None = None
    tool_calls: list[_Call] | None = None


class _Choice(msgspec.Struct, frozen=True):
    message: _Message
    finish_reason: str | None = None


class _ChatCompletion(msgspec.Struct, frozen=True):
    model: str
    choices: list[_Choice]
    usage: _Usage
    id: str = ""
    service_tier: str | None = None


_read = msgspec.json.Decoder(_ChatCompletion).decode


class ChatFormat:
    """Chat Completions for one model. ``temperature`` and ``service_tier`` None leave both to the provider."""

    image_tokens = api.IMAGE_TOKENS

    def __init__(
        self,
        model: str,
        api_key: Secret | None,
        server: Server = OPENAI,
        *,
        temperature: float | None = None,
        service_tier: str | None = None,
    ) -> None:
        self._model = model
        self._api_key = api_key
        self._server = server
        self._chosen = {"temperature": temperature, "service_tier": service_tier}

    @property
    def provider(self) -> str:
        """The provider's name as in the config and the price table."""
        return self._server.provider

    @property
    def path(self) -> str:
        """Where requests go, below the base URL."""
        return self._server.path

    def headers(self) -> dict[str, str]:
        """Headers of every request."""
        return self._server.headers(self._api_key)

    def encode(self, question: Question) -> bytes:
        """The request body: a system message, examples as earlier turns, the input, and the schema."""
        return written(question, self._body)

    def _body(self, question: Question) -> JsonObject:
        schema = api.strict_schema(question)
        prompt = compose(question, schema_is_enforced=schema is not None)
        told = prompt.messages(("user", "assistant"), _text_part, _image_part)
        body: JsonObject = {
            "model": self._model,
            self._server.limit_field: question.max_output_tokens,
            "messages": [
                {"role": "system", "content": prompt.system},
                *({"role": role, "content": content} for role, content in told),
            ],
            **{name: value for name, value in self._chosen.items() if value is not None},
            **self._server.extra,
        }
        if schema is not None:
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        elif question.tools:
            body["tools"] = [{"type": "function", "function": tool} for tool in question.tools]
        elif self._server.json_mode:
            body["response_format"] = {"type": "json_object"}
        return body

    def decode(self, body: bytes, headers: Mapping[str, str] = NO_HEADERS) -> Completion:
        """Read a chat completion. Raises :class:`Malformed` for anything else under status 200."""
        try:
            answer = _read(body)
        except (msgspec.DecodeError, RecursionError) as error:
            raise Malformed(f"the response under status 200 is not a chat completion: {error}") from None
        choice = answer.choices[0] if answer.choices else _Choice(message=_Message(), finish_reason="no choice")
        calls = [api.tool_call(call.function.name, call.function.arguments) for call in choice.message.tool_calls or ()]
        return Completion(
            id=answer.id,
            model=answer.model,
            text=choice.message.content or "",
            usage=_counted(answer.usage),
            service_tier=answer.service_tier,
            cost_nd=_stated_nd(answer.usage) if self._server.states_cost else None,
            tool_calls=tuple(call for call in calls if call is not None),
            failed=_failed(choice, calls),
        )

    def reject(self, status: int, body: bytes) -> Rejection:
        """Tell what an error response means and whether waiting can cure it."""
        return api.reject(status, body)

    def allowances(self, headers: Mapping[str, str], now_ns: int) -> dict[str, Allowance]:
        """What ``x-ratelimit-*`` says of requests and tokens."""
        return api.allowances(headers)


def _counted(usage: _Usage) -> TokenUsage:
    prompt = usage.prompt_tokens_details or _PromptDetails()
    completion = usage.completion_tokens_details or _CompletionDetails()
    return api.usage(
        usage.prompt_tokens,
        usage.completion_tokens,
        cached=prompt.cached_tokens,
        written=prompt.cache_write_tokens,
        reasoning=completion.reasoning_tokens,
        total=usage.total_tokens,
    )


def _stated_nd(usage: _Usage) -> int | None:
    """The stated bill in nano-dollars, rounded up; with a key of one's own the upstream provider bills besides."""
    if usage.cost is None:
        return None
    upstream = usage.cost_details.upstream_inference_cost if usage.is_byok and usage.cost_details else None
    amount = usage.cost + (upstream or 0)
    if not (amount.is_finite() and amount >= 0):
        raise Malformed(f"the stated cost {amount} is not an amount")
    return int((amount * 10**9).to_integral_value(ROUND_CEILING))


def _failed(choice: _Choice, calls: list[ToolCall | None]) -> tuple[RemoteFailureKind, str] | None:
    if choice.message.refusal:
        return "refusal", "the model declined to answer"
    match choice.finish_reason:
        case "length":
            return "cut_off", "the answer hit the output limit; raise max_output_tokens if answers are that long"
        case "content_filter":
            return "refusal", "the provider's content filter stopped the answer"
        case "stop" | None:
            pass
        case "tool_calls" if calls:
            pass
        case other:
            return "invalid", f"the completion finished with {other!r} where a finished answer was expected"
    return ("invalid", "the arguments of a tool call are not a JSON object") if None in calls else None


def _text_part(text: str) -> JsonObject:
    return {"type": "text", "text": text}


def _image_part(image: Image) -> JsonObject:
    return {"type": "image_url", "image_url": {"url": image.address}}
