"""The provider's side of Chat Completions: OpenAI's own, Azure's two forms, and OpenRouter's with the cost in it."""

from decimal import Decimal
from typing import Any

import msgspec

from apprentice.testing import openai_service as service
from apprentice.testing.dialect import (
    Allowed,
    Asked,
    Refused,
    Said,
    Stop,
    Wrong,
    as_object,
    demand_limit,
    demand_number,
    read_object,
)
from apprentice.testing.faults import Fault
from apprentice.testing.http_server import Request
from apprentice_actors.ports import JsonObject
from apprentice_events.vocabulary import TokenUsage

_FIELDS = frozenset(
    {"model", "messages", "max_completion_tokens", "max_tokens", "temperature", "top_p", "response_format", "tools",
     "tool_choice", "service_tier", "stream", "n", "seed", "stop", "store", "metadata", "user", "reasoning_effort",
     "logprobs", "top_logprobs"}
)  # fmt: skip
_ROUTED = frozenset({"provider", "usage", "models"})
_LIMIT = 4096
_CHARS_PER_TOKEN = 4
_encode = msgspec.json.Encoder(decimal_format="number").encode
_STOPS = {
    Stop.done: "stop",
    Stop.refused: "stop",
    Stop.length: "length",
    Stop.context: "length",
    Stop.paused: "tool_calls",
}


class ChatApi:
    """Chat Completions. ``routed`` is OpenRouter's copy, which takes routing preferences and tells the cost."""

    def __init__(self, *, routed: bool = False) -> None:
        self._routed = routed
        self.name = "openrouter" if routed else "chat"

    def check(self, request: Request, api_key: str | None) -> Asked:
        """Read a request. Raises :class:`Wrong`."""
        service.demand_openai_key(request, api_key)
        fields = read_object(request.body)
        deployment = service.deployment_of(request)
        if unknown := sorted(set(fields) - _FIELDS - (_ROUTED if self._routed else set())):
            raise Wrong(400, f"Unrecognized request argument supplied: {unknown[0]}")
        model = deployment or fields.get("model")
        if not isinstance(model, str) or not model:
            raise Wrong(400, "you must provide a model parameter")
        if fields.get("stream") or fields.get("n", 1) != 1:
            raise Wrong(400, "the simulated provider does not stream and gives one answer")
        demand_number(fields.get("temperature"), "temperature", 0, 2)
        text, images = _last_message(fields.get("messages"))
        limit = fields.get("max_completion_tokens", fields.get("max_tokens", _LIMIT))
        return Asked(
            model=model,
            max_tokens=demand_limit(limit, "max_tokens"),
            text=text,
            input=as_object(text),
            schema=_check_response_format(fields),
            prompt_bytes=len(request.body),
            images=images,
            tools=_check_tools(fields.get("tools", [])),
            service_tier=service.check_tier(fields.get("service_tier")),
            logprobs=bool(fields.get("logprobs")),
        )

    def countable(self, usage: TokenUsage, written_1h: int) -> tuple[TokenUsage, int]:
        """Everything but how long a cache entry is kept."""
        return usage, 0

    def tier(self, asked: str | None) -> str:
        """The tier as the response names it."""
        return service.answered_tier(asked)

    def answer(self, asked: Asked, number: int, said: Said) -> bytes:
        """The body of a chat completion."""
        refused = said.stop is Stop.refused
        message: JsonObject = {
            "role": "assistant",
            "content": None if refused or (said.calls and not said.text) else said.text,
            "refusal": "I'm sorry, I can't help with that." if refused else None,
        }
        if said.calls:
            message["tool_calls"] = [_call(call, number, index) for index, call in enumerate(said.calls)]
        finish = "tool_calls" if said.calls and said.stop is Stop.done else _STOPS[said.stop]
        logprobs = {"content": _tokens(said), "refusal": None} if asked.logprobs else None
        return _encode(
            {
                "id": f"chatcmpl-{number:024d}",
                "object": "chat.completion",
                "created": service.CREATED + number,
                "model": asked.model,
                "choices": [{"index": 0, "message": message, "logprobs": logprobs, "finish_reason": finish}],
                "usage": self._usage(said),
                "service_tier": said.service_tier,
                "system_fingerprint": None,
            }
        )

    def _usage(self, said: Said) -> JsonObject:
        usage = said.usage
        prompt = usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens
        counted: JsonObject = {
            "prompt_tokens": prompt,
            "completion_tokens": usage.output_tokens,
            "total_tokens": prompt + usage.output_tokens,
            "prompt_tokens_details": {
                "cached_tokens": usage.cache_read_tokens,
                "cache_write_tokens": usage.cache_write_tokens,
                "audio_tokens": 0,
            },
            "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens, "audio_tokens": 0},
        }
        if self._routed:
            counted |= {"cost": Decimal(said.cost_nd) / 10**9, "is_byok": False}
        return counted

    def refuse(self, status: int, text: str, number: int, fault: Fault | None, after_s: float | None) -> Refused:
        """An error response."""
        return service.refuse(status, text, number, fault, after_s)

    def limits(self, allowed: Allowed) -> dict[str, str]:
        """``x-ratelimit-*-requests``."""
        return service.limits(allowed)


def _call(call: JsonObject, number: int, index: int) -> JsonObject:
    function = {"name": call["name"], "arguments": msgspec.json.encode(call["arguments"]).decode()}
    return {"id": f"call_{number:020d}{index:04d}", "type": "function", "function": function}


def _tokens(said: Said) -> list[JsonObject]:
    """The text in pieces of a token's usual length, each as likely as the reply says."""
    pieces = [said.text[at : at + _CHARS_PER_TOKEN] for at in range(0, len(said.text), _CHARS_PER_TOKEN)]
    return [
        {"token": piece, "logprob": said.logprob, "bytes": list(piece.encode()), "top_logprobs": []} for piece in pieces
    ]


def _last_message(messages: Any) -> tuple[str, int]:
    """Text and number of images of the last message."""
    if not isinstance(messages, list) or not messages:
        raise Wrong(400, "Invalid 'messages': at least one message is required")
    read = []
    for index, message in enumerate(messages):
        path = f"messages[{index}]"
        if not isinstance(message, dict) or message.get("role") not in ("system", "developer", "user", "assistant"):
            raise Wrong(400, f"Invalid value for '{path}.role'")
        read.append(_content(message.get("content"), path))
    if messages[-1]["role"] != "user":
        raise Wrong(400, "the simulated provider answers a user's message")
    return read[-1]


def _content(content: Any, path: str) -> tuple[str, int]:
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    if not isinstance(parts, list) or not parts:
        raise Wrong(400, f"Invalid value for '{path}.content': text or a list of parts is required")
    texts = [str(part["text"]) for part in parts if part.get("type") == "text"]
    images = [part for part in parts if part.get("type") == "image_url"]
    if len(texts) + len(images) < len(parts):
        raise Wrong(400, f"Invalid value for '{path}.content': parts of type text or image_url are required")
    for image in images:
        service.check_image(image.get("image_url", {}).get("url"), f"{path}.image_url")
    return "".join(texts), len(images)


def _check_tools(tools: Any) -> tuple[str, ...]:
    for index, tool in enumerate(tools):
        if tool.get("type") != "function":
            raise Wrong(400, f"Invalid value for 'tools[{index}].type'")
    return tuple(service.check_tool(tool.get("function"), f"tools[{index}]") for index, tool in enumerate(tools))


def _check_response_format(fields: JsonObject) -> JsonObject | None:
    wanted = fields.get("response_format")
    if wanted is None:
        return None
    if isinstance(wanted, dict) and wanted.get("type") == "json_object" and "json" not in str(fields).lower():
        raise Wrong(400, "'messages' must contain the word 'json' to use 'response_format' of type 'json_object'")
    if isinstance(wanted, dict) and wanted.get("type") == "json_schema":
        inner = wanted.get("json_schema")
        wanted = {"type": "json_schema", **(inner if isinstance(inner, dict) else {})}
    return service.check_format(wanted, "response_format")
