"""The provider's side of Anthropic's Messages API: what it refuses, and what its answers look like.

Checks follow the vendor's documentation: unknown fields, missing ``max_tokens``, an assistant's words in last place and
schemas with rules that cannot be enforced are all answered with status 400.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from apprentice.testing.dialect import (
    JSON_TYPE,
    Allowed,
    Asked,
    Refused,
    Said,
    Stop,
    Wrong,
    as_object,
    demand_key,
    demand_limit,
    demand_number,
    read_object,
)
from apprentice.testing.faults import Fault
from apprentice.testing.http_server import Request
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
    "tools",
    "tool_choice",
}
_UNENFORCEABLE = frozenset(
    {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength", "maxItems",
     "uniqueItems", "patternProperties", "allOf", "not", "oneOf"}
)  # fmt: skip
_TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_STOPS = {
    Stop.done: "end_turn",
    Stop.refused: "refusal",
    Stop.length: "max_tokens",
    Stop.context: "model_context_window_exceeded",
    Stop.paused: "pause_turn",
}
_REFUSAL = {"type": "refusal", "category": "general_harms", "explanation": "The simulated model declines."}


class MessagesApi:
    """The Messages API."""

    name = "messages"

    def check(self, request: Request, api_key: str | None) -> Asked:
        """Read a request. Raises :class:`Wrong`.

        The key comes as ``x-api-key``, or as a bearer token, which is how the vendor's own client sends it.
        """
        headers = request.headers
        key = headers.get("x-api-key") or headers.get("authorization", "").removeprefix("Bearer ")
        demand_key(key, api_key, "invalid x-api-key" if key else "x-api-key header is required")
        version = headers.get("anthropic-version")
        if version not in VERSIONS:
            raise Wrong(400, f"anthropic-version: {version!r} is not a valid version")
        fields = read_object(request.body)
        _check_fields(fields, version)
        text, images = _last_message(fields["messages"])
        return Asked(
            model=fields["model"],
            max_tokens=fields["max_tokens"],
            text=text,
            input=as_object(text),
            schema=_check_output_config(fields.get("output_config")),
            prompt_bytes=len(request.body),
            images=images,
            tools=_check_tools(fields.get("tools", [])),
            service_tier=fields.get("service_tier"),
        )

    def countable(self, usage: TokenUsage, written_1h: int) -> tuple[TokenUsage, int]:
        """Everything: this format has a word for each count."""
        return usage, written_1h

    def tier(self, asked: str | None) -> str:
        """Always the standard tier."""
        return "standard"

    def answer(self, asked: Asked, number: int, said: Said) -> bytes:
        """The body of a message."""
        usage = said.usage
        blocks: list[JsonObject] = [{"type": "text", "text": said.text}] if said.text else []
        for index, call in enumerate(said.calls):
            identity = f"toolu_{number:020d}{index:04d}"
            blocks.append({"type": "tool_use", "id": identity, "name": call["name"], "input": call["arguments"]})
        return msgspec.json.encode(
            {
                "id": f"msg_{number:024d}",
                "type": "message",
                "role": "assistant",
                "model": asked.model,
                "content": blocks,
                "stop_reason": "tool_use" if said.calls and said.stop is Stop.done else _STOPS[said.stop],
                "stop_sequence": None,
                "stop_details": _REFUSAL if said.stop is Stop.refused else None,
                "usage": {
                    "input_tokens": usage.input_tokens,
                    "output_tokens": usage.output_tokens,
                    "cache_read_input_tokens": usage.cache_read_tokens,
                    "cache_creation_input_tokens": usage.cache_write_tokens,
                    "cache_creation": {
                        "ephemeral_5m_input_tokens": usage.cache_write_tokens - said.cache_write_1h,
                        "ephemeral_1h_input_tokens": said.cache_write_1h,
                    },
                    "output_tokens_details": {"thinking_tokens": usage.reasoning_tokens},
                    "service_tier": said.service_tier,
                },
            }
        )

    def refuse(self, status: int, text: str, number: int, fault: Fault | None, after_s: float | None) -> Refused:
        """An error response."""
        content: JsonObject = {"type": _TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")}
        content["message"] = text
        if fault is Fault.spend_limit:
            content["details"] = {"error_code": "enforced_spend_limit_reached"}
        body = msgspec.json.encode({"type": "error", "error": content, "request_id": f"req_{number:024d}"})
        pause = {} if after_s is None else {"retry-after": f"{after_s:.0f}"}
        return Refused(status=status, body=body, headers={**JSON_TYPE, **pause})

    def limits(self, allowed: Allowed) -> dict[str, str]:
        """``anthropic-ratelimit-requests-*``."""
        reset = datetime.fromtimestamp(allowed.now_ns / 1e9 + allowed.reset_s, UTC)
        prefix = "anthropic-ratelimit-requests-"
        return {
            prefix + "limit": str(allowed.limit),
            prefix + "remaining": str(allowed.remaining),
            prefix + "reset": reset.isoformat().replace("+00:00", "Z"),
        }


def _check_fields(fields: JsonObject, version: str | None) -> None:
    if unknown := sorted(set(fields) - _FIELDS):
        raise Wrong(400, f"{unknown[0]}: Extra inputs are not permitted")
    if not isinstance(fields.get("model"), str) or not fields["model"]:
        raise Wrong(400, "model: Field required")
    demand_limit(fields.get("max_tokens"), "max_tokens")
    if fields.get("stream"):
        raise Wrong(400, "stream: the simulated provider does not stream")
    if not isinstance(fields.get("system", ""), str):
        raise Wrong(400, "system: the simulated provider takes text only")
    if fields.get("service_tier", "auto") not in ("auto", "standard_only"):
        raise Wrong(400, "service_tier: 'auto' or 'standard_only' is required")
    for name in _SAMPLING & set(fields):
        if version in _WITHOUT_SAMPLING:
            raise Wrong(400, f"{name}: Extra inputs are not permitted")
    demand_number(fields.get("temperature"), "temperature", 0, 1)


def _last_message(messages: Any) -> tuple[str, int]:
    """Text and number of images of the last message."""
    if not isinstance(messages, list) or not messages:
        raise Wrong(400, "messages: at least one message is required")
    read = []
    for index, message in enumerate(messages):
        if not isinstance(message, dict) or set(message) != {"role", "content"}:
            raise Wrong(400, f"messages.{index}: role and content are required, and nothing else")
        if message["role"] not in ("user", "assistant"):
            raise Wrong(400, f"messages.{index}.role: 'user' or 'assistant' is required")
        read.append(_content(message["content"], f"messages.{index}.content"))
    if messages[0]["role"] != "user" or messages[-1]["role"] != "user":
        raise Wrong(400, "messages: the conversation must begin and end with a user message")
    return read[-1]


def _content(content: Any, path: str) -> tuple[str, int]:
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    if not isinstance(blocks, list) or not all(isinstance(block, dict) for block in blocks):
        raise Wrong(400, f"{path}: text or a list of blocks is required")
    texts = [str(block.get("text", "")) for block in blocks if block.get("type") == "text"]
    images = [block for block in blocks if block.get("type") == "image"]
    if len(texts) + len(images) < len(blocks) or not "".join(texts).strip():
        raise Wrong(400, f"{path}: non-empty text is required, and nothing but images beside it")
    for image in images:
        source = image.get("source", {})
        wanted = {"base64": {"type", "media_type", "data"}, "url": {"type", "url"}}.get(source.get("type"))
        if wanted is None or set(source) != wanted or not all(source.values()):
            raise Wrong(400, f"{path}: an image needs a source of type base64 or url")
    return "".join(texts), len(images)


def _check_tools(tools: Any) -> tuple[str, ...]:
    for index, tool in enumerate(tools):
        if not {"name", "input_schema"} <= set(tool) <= {"name", "description", "input_schema", "strict"}:
            raise Wrong(400, f"tools.{index}: name and input_schema are required")
        if tool["input_schema"].get("type") != "object":
            raise Wrong(400, f"tools.{index}.input_schema.type: 'object' is required")
    return tuple(tool["name"] for tool in tools)


def _check_output_config(config: Any) -> JsonObject | None:
    if config is None:
        return None
    wanted = config.get("format") if isinstance(config, dict) else None
    if not isinstance(wanted, dict) or set(wanted) != {"type", "schema"} or wanted["type"] != "json_schema":
        raise Wrong(400, "output_config.format: {type: json_schema, schema} is required")
    check_schema(wanted["schema"], "output_config.format.schema")
    schema: JsonObject = wanted["schema"]
    return schema


def check_schema(part: Any, path: str, *, all_required: bool = False) -> None:
    """Refuse a schema that the provider could not enforce, at whatever depth. Raises :class:`Wrong`.

    ``all_required`` asks for every property to be listed as required, as strict structured output elsewhere does.
    """
    if not isinstance(part, Mapping):
        raise Wrong(400, f"{path}: a schema object is required")
    if rules := sorted(_UNENFORCEABLE & set(part)):
        raise Wrong(400, f"{path}: {rules[0]} is not supported")
    if part.get("type") == "object" and part.get("additionalProperties") is not False:
        raise Wrong(400, f"{path}: additionalProperties must be false")
    if all_required and set(part.get("properties", ())) != set(part.get("required", ())):
        raise Wrong(400, f"{path}: 'required' must list every property")
    for group in ("properties", "$defs"):
        for name, child in part.get(group, {}).items():
            check_schema(child, f"{path}.{group}.{name}", all_required=all_required)
    if "items" in part:
        check_schema(part["items"], f"{path}.items", all_required=all_required)
    for index, option in enumerate(part.get("anyOf", ())):
        check_schema(option, f"{path}.anyOf.{index}", all_required=all_required)
