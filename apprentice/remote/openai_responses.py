"""The Responses API of OpenAI, which some of its newest models speak alone.

The output is a list of items: reasoning, messages, function calls. Nothing is stored at the provider
(``store: false``). The instructions go as a message of their own, because JSON mode looks for them there.
"""

from collections.abc import Mapping

import msgspec

from apprentice.remote import openai_api as api
from apprentice.remote.images import Image
from apprentice.remote.limits import Allowance
from apprentice.remote.openai_api import Count, Server
from apprentice.remote.prompt import compose, written
from apprentice.remote.secrets import Secret
from apprentice.remote.wire import NO_HEADERS, Completion, Malformed, Rejection, ToolCall
from apprentice_actors.ports import JsonObject, Question, RemoteFailureKind

PATH = "/responses"
OPENAI = Server(provider="openai", path=PATH)


class _Retention(msgspec.Struct, frozen=True):
    ttl_12h_tokens: Count = 0


class _InputDetails(msgspec.Struct, frozen=True):
    cached_tokens: Count | None = None
    cache_write_tokens: Count | None = None
    cache_write_tokens_details: _Retention | None = None


class _OutputDetails(msgspec.Struct, frozen=True):
    reasoning_tokens: Count | None = None


class _Usage(msgspec.Struct, frozen=True):
    input_tokens: Count
    output_tokens: Count
    input_tokens_details: _InputDetails | None = None
    output_tokens_details: _OutputDetails | None = None


class _Part(msgspec.Struct, frozen=True):
    type: str
    text: str = ""


class _Item(msgspec.Struct, frozen=True):
    type: str
    content: list[_Part] | None = None
    name: str = ""
    arguments: str = ""


class _Incomplete(msgspec.Struct, frozen=True):
    reason: str | None = None


class _Response(msgspec.Struct, frozen=True):
    model: str
    status: str
    output: list[_Item]
    usage: _Usage
    id: str = ""
    incomplete_details: _Incomplete | None = None
    service_tier: str | None = None


_read = msgspec.json.Decoder(_Response).decode


class ResponsesFormat:
    """The Responses API for one model. ``temperature`` and ``service_tier`` None leave both to the provider."""

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
            "max_output_tokens": question.max_output_tokens,
            "store": False,
            "input": [
                {"role": "system", "content": prompt.system},
                *({"role": role, "content": content} for role, content in told),
            ],
            **{name: value for name, value in self._chosen.items() if value is not None},
            **self._server.extra,
        }
        if question.tools:
            body["tools"] = [{"type": "function", "strict": False, **tool} for tool in question.tools]
        else:
            wanted = {"type": "json_object"} if schema is None else {"type": "json_schema", **schema}
            body["text"] = {"format": wanted}
        return body

    def decode(self, body: bytes, headers: Mapping[str, str] = NO_HEADERS) -> Completion:
        """Read a response. Raises :class:`Malformed` for anything else under status 200."""
        try:
            answer = _read(body)
        except (msgspec.DecodeError, RecursionError) as error:
            raise Malformed(f"what came under status 200 is not a response with its usage: {error}") from None
        parts = [part for item in answer.output if item.type == "message" for part in item.content or ()]
        calls = [api.tool_call(item.name, item.arguments) for item in answer.output if item.type == "function_call"]
        given = answer.usage.input_tokens_details or _InputDetails()
        return Completion(
            id=answer.id,
            model=answer.model,
            text="".join(part.text for part in parts if part.type == "output_text"),
            usage=api.usage(
                answer.usage.input_tokens,
                answer.usage.output_tokens,
                cached=given.cached_tokens,
                written=given.cache_write_tokens,
                reasoning=(answer.usage.output_tokens_details or _OutputDetails()).reasoning_tokens,
            ),
            cache_write_1h_tokens=_kept_long(given),
            service_tier=answer.service_tier,
            tool_calls=tuple(call for call in calls if call is not None),
            failed=_failed(answer, parts, calls),
        )

    def reject(self, status: int, body: bytes) -> Rejection:
        """Tell what an error response means and whether waiting can cure it."""
        return api.reject(status, body)

    def allowances(self, headers: Mapping[str, str], now_ns: int) -> dict[str, Allowance]:
        """What ``x-ratelimit-*`` says of requests and tokens."""
        return api.allowances(headers)


def _kept_long(given: _InputDetails) -> int:
    kept = given.cache_write_tokens_details.ttl_12h_tokens if given.cache_write_tokens_details else 0
    if kept > (given.cache_write_tokens or 0):
        raise Malformed(f"of {given.cache_write_tokens} tokens written to the cache, {kept} are said to be kept long")
    return kept


def _failed(
    answer: _Response, parts: list[_Part], calls: list[ToolCall | None]
) -> tuple[RemoteFailureKind, str] | None:
    reason = answer.incomplete_details.reason if answer.incomplete_details else None
    if any(part.type == "refusal" for part in parts):
        return "refusal", "the model declined to answer"
    match answer.status, reason:
        case "completed", _:
            return ("invalid", "the arguments of a tool call are not a JSON object") if None in calls else None
        case "incomplete", "max_output_tokens":
            return "cut_off", "the answer hit the output limit; raise max_output_tokens if answers are that long"
        case "incomplete", "content_filter":
            return "refusal", "the provider's content filter stopped the answer"
        case status, _:
            return "invalid", f"the response is {status!r} (reason: {reason}) where a completed one was expected"


def _text_part(text: str) -> JsonObject:
    return {"type": "input_text", "text": text}


def _image_part(image: Image) -> JsonObject:
    return {"type": "input_image", "image_url": image.address, "detail": "auto"}
