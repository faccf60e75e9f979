"""The provider's side of the Messages API: what it refuses, and what its answers look like. Pure functions.

Checks follow the vendor's documentation: unknown fields, missing ``max_tokens``, an assistant's words in last place and
schemas with rules that cannot be enforced are all answered with status 400, so that a client which sends them fails in
a test and not in production.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from apprentice.remote.prompt import canonical_json
from apprentice_actors.ports import JsonObject
from apprentice_events.vocabulary import TokenUsage

VERSIONS = frozenset({"2023-06-01", "2026-10-21"})
_WITHOUT_SAMPLING = frozenset({"2026-10-21"})
"""Versions under which temperature, top_p and top_k no longer exist."""
_SAMPLING = frozenset({"temperature", "top_p", "top_k"})
_FIELDS = _SAMPLING | {
    "model",
    "max_tokens",
    "messages",
    "system",
    "output_config",
    "stop_sequences",
    "metadata",
    "thinking",
    "service_tier",
    "cache_control",
    "stream",
}
_UNENFORCEABLE = frozenset(
    {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength", "maxItems",
     "uniqueItems", "patternProperties", "allOf", "not", "oneOf"}
)  # fmt: skip
_BYTES_PER_TOKEN = 4


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """An answer with its own token counts; a count left at None is estimated from the length of the text."""

    output: JsonObject
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    """Contained in ``cache_write_tokens``."""


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A request that passed the checks. ``text`` is the last user message, ``input`` the JSON object in it."""

    model: str
    max_tokens: int
    text: str
    input: JsonObject
    schema: JsonObject | None
    prompt_bytes: int


class Wrong(Exception):
    """The request is refused with ``status`` and the error type ``kind``."""

    def __init__(self, status: int, kind: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind


def check(headers: Mapping[str, str], body: bytes, api_key: str | None) -> Asked:
    """Read a request. Raises :class:`Wrong`. ``api_key`` None lets any key pass, but none is not enough.

    The key comes as ``x-api-key``, or as a bearer token, which is how the vendor's own client sends it.
    """
    key = headers.get("x-api-key") or headers.get("authorization", "").removeprefix("Bearer ")
    if not key or (api_key is not None and key != api_key):
        raise Wrong(401, "authentication_error", "invalid x-api-key" if key else "x-api-key header is required")
    version = headers.get("anthropic-version")
    if version not in VERSIONS:
        raise _bad(f"anthropic-version: {version!r} is not a valid version")
    try:
        fields = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise _bad(f"The request body is not valid JSON: {error}") from None
    if not isinstance(fields, dict):
        raise _bad("The request body must be an object")
    _check_fields(fields, version)
    text = _last_text(fields["messages"])
    return Asked(
        model=fields["model"],
        max_tokens=fields["max_tokens"],
        text=text,
        input=_as_object(text),
        schema=_check_output_config(fields.get("output_config")),
        prompt_bytes=len(body),
    )


def _check_fields(fields: JsonObject, version: str | None) -> None:
    if unknown := sorted(set(fields) - _FIELDS):
        raise _bad(f"{unknown[0]}: Extra inputs are not permitted")
    model, max_tokens = fields.get("model"), fields.get("max_tokens")
    if not isinstance(model, str) or not model:
        raise _bad("model: Field required")
    if isinstance(max_tokens, bool) or not isinstance(max_tokens, int) or max_tokens < 1:
        raise _bad("max_tokens: a positive integer is required")
    if fields.get("stream"):
        raise _bad("stream: the simulated provider does not stream")
    if not isinstance(fields.get("system", ""), str):
        raise _bad("system: the simulated provider takes text only")
    for name in _SAMPLING & set(fields):
        if version in _WITHOUT_SAMPLING:
            raise _bad(f"{name}: Extra inputs are not permitted")
    temperature = fields.get("temperature", 1.0)
    if isinstance(temperature, bool) or not isinstance(temperature, int | float) or not 0 <= temperature <= 1:
        raise _bad("temperature: a number from 0 to 1 is required")


def _last_text(messages: Any) -> str:
    if not isinstance(messages, list) or not messages:
        raise _bad("messages: at least one message is required")
    for index, message in enumerate(messages):
        if not isinstance(message, dict) or set(message) != {"role", "content"}:
            raise _bad(f"messages.{index}: role and content are required, and nothing else")
        if message["role"] not in ("user", "assistant"):
            raise _bad(f"messages.{index}.role: 'user' or 'assistant' is required")
        if not isinstance(message["content"], str) or not message["content"].strip():
            raise _bad(f"messages.{index}.content: non-empty text is required")
    if messages[0]["role"] != "user" or messages[-1]["role"] != "user":
        raise _bad("messages: the conversation must begin and end with a user message")
    return str(messages[-1]["content"])


def _check_output_config(config: Any) -> JsonObject | None:
    if config is None:
        return None
    wanted = config.get("format") if isinstance(config, dict) else None
    if not isinstance(wanted, dict) or set(wanted) != {"type", "schema"} or wanted["type"] != "json_schema":
        raise _bad("output_config.format: {type: json_schema, schema} is required")
    check_schema(wanted["schema"], "output_config.format.schema")
    schema: JsonObject = wanted["schema"]
    return schema


def check_schema(part: Any, path: str) -> None:
    """Refuse a schema that the provider could not enforce, at whatever depth. Raises :class:`Wrong`."""
    if not isinstance(part, dict):
        raise _bad(f"{path}: a schema object is required")
    if rules := sorted(_UNENFORCEABLE & set(part)):
        raise _bad(f"{path}: {rules[0]} is not supported")
    if part.get("type") == "object" and part.get("additionalProperties") is not False:
        raise _bad(f"{path}: additionalProperties must be false")
    for group in ("properties", "$defs"):
        for name, child in part.get(group, {}).items():
            check_schema(child, f"{path}.{group}.{name}")
    if "items" in part:
        check_schema(part["items"], f"{path}.items")
    for index, option in enumerate(part.get("anyOf", ())):
        check_schema(option, f"{path}.anyOf.{index}")


def _as_object(text: str) -> JsonObject:
    try:
        value = msgspec.json.decode(text)
    except msgspec.DecodeError:
        value = None
    return value if isinstance(value, dict) else {"text": text}


def _bad(message: str) -> Wrong:
    return Wrong(400, "invalid_request_error", message)


def usage_of(asked: Asked, reply: Reply, text: str) -> TokenUsage:
    """Token counts: the reply's own where it has them, else a quarter of the bytes, never more than allowed."""
    estimated = -(-len(text.encode()) // _BYTES_PER_TOKEN)
    spoken = estimated if reply.output_tokens is None else reply.output_tokens
    heard = -(-asked.prompt_bytes // _BYTES_PER_TOKEN) if reply.input_tokens is None else reply.input_tokens
    return TokenUsage(
        input_tokens=heard,
        output_tokens=min(spoken, asked.max_tokens),
        cache_read_tokens=reply.cache_read_tokens,
        cache_write_tokens=reply.cache_write_tokens,
    )


def message(
    asked: Asked, number: int, text: str, usage: TokenUsage, *, stop_reason: str = "end_turn", cache_write_1h: int = 0
) -> bytes:
    """The body of a successful response."""
    return msgspec.json.encode(
        {
            "id": f"msg_{number:024d}",
            "type": "message",
            "role": "assistant",
            "model": asked.model,
            "content": [{"type": "text", "text": text}] if text else [],
            "stop_reason": stop_reason,
            "stop_sequence": None,
            "stop_details": _REFUSAL if stop_reason == "refusal" else None,
            "usage": {
                "input_tokens": usage.input_tokens,
                "output_tokens": usage.output_tokens,
                "cache_read_input_tokens": usage.cache_read_tokens,
                "cache_creation_input_tokens": usage.cache_write_tokens,
                "cache_creation": {
                    "ephemeral_5m_input_tokens": usage.cache_write_tokens - cache_write_1h,
                    "ephemeral_1h_input_tokens": cache_write_1h,
                },
                "service_tier": "standard",
            },
        }
    )


def error(kind: str, text: str, number: int, code: str | None = None) -> bytes:
    """The body of an error response."""
    content: dict[str, Any] = {"type": kind, "message": text}
    if code is not None:
        content["details"] = {"error_code": code}
    return msgspec.json.encode({"type": "error", "error": content, "request_id": f"req_{number:024d}"})


def text_of(output: JsonObject) -> str:
    """An answer as the model would write it."""
    return canonical_json(output)


_REFUSAL = {"type": "refusal", "category": "general_harms", "explanation": "The simulated model declines."}
