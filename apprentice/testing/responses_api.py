"""The provider's side of OpenAI's Responses API."""

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
    {"model", "input", "instructions", "max_output_tokens", "store", "temperature", "top_p", "text", "tools",
     "tool_choice", "service_tier", "stream", "metadata", "reasoning", "parallel_tool_calls", "user"}
)  # fmt: skip
_LIMIT = 4096
_INCOMPLETE = {
    Stop.length: "max_output_tokens",
    Stop.context: "max_output_tokens",
    Stop.paused: "max_messages",
}


class ResponsesApi:
    """The Responses API."""

    name = "responses"

    def check(self, request: Request, api_key: str | None) -> Asked:
        """Read a request. Raises :class:`Wrong`."""
        service.demand_openai_key(request, api_key)
        fields = read_object(request.body)
        if unknown := sorted(set(fields) - _FIELDS):
            raise Wrong(400, f"Unknown parameter: '{unknown[0]}'.")
        if not isinstance(fields.get("model"), str) or not fields["model"]:
            raise Wrong(400, "Missing required parameter: 'model'.")
        if fields.get("stream"):
            raise Wrong(400, "the simulated provider does not stream")
        demand_number(fields.get("temperature"), "temperature", 0, 2)
        text, images = _last_message(fields.get("input"))
        return Asked(
            model=fields["model"],
            max_tokens=demand_limit(fields.get("max_output_tokens", _LIMIT), "max_output_tokens"),
            text=text,
            input=as_object(text),
            schema=_check_text_format(fields),
            prompt_bytes=len(request.body),
            images=images,
            tools=_check_tools(fields.get("tools", [])),
            service_tier=service.check_tier(fields.get("service_tier")),
        )

    def countable(self, usage: TokenUsage, written_1h: int) -> tuple[TokenUsage, int]:
        """Everything: this format has a word for each count."""
        return usage, written_1h

    def tier(self, asked: str | None) -> str:
        """The tier as the response names it."""
        return service.answered_tier(asked)

    def answer(self, asked: Asked, number: int, said: Said) -> bytes:
        """The body of a response."""
        reason = _INCOMPLETE.get(said.stop)
        status = "completed" if reason is None else "incomplete"
        return msgspec.json.encode(
            {
                "id": f"resp_{number:024d}",
                "object": "response",
                "created_at": service.CREATED + number,
                "status": status,
                "error": None,
                "incomplete_details": None if reason is None else {"reason": reason},
                "instructions": None,
                "metadata": {},
                "model": asked.model,
                "output": _items(number, said, status),
                "parallel_tool_calls": True,
                "temperature": 1.0,
                "tool_choice": "auto",
                "tools": [],
                "top_p": 1.0,
                "service_tier": said.service_tier,
                "usage": _usage(said),
            }
        )

    def refuse(self, status: int, text: str, number: int, fault: Fault | None, after_s: float | None) -> Refused:
        """An error response."""
        return service.refuse(status, text, number, fault, after_s)

    def limits(self, allowed: Allowed) -> dict[str, str]:
        """``x-ratelimit-*-requests``."""
        return service.limits(allowed)


def _items(number: int, said: Said, status: str) -> list[JsonObject]:
    items: list[JsonObject] = []
    if said.stop is Stop.refused or said.text:
        part: JsonObject = {"type": "output_text", "text": said.text, "annotations": []}
        if said.stop is Stop.refused:
            part = {"type": "refusal", "refusal": "I'm sorry, I can't help with that."}
        identity = f"msg_{number:024d}"
        items.append({"id": identity, "type": "message", "role": "assistant", "status": status, "content": [part]})
    for index, call in enumerate(said.calls):
        items.append(
            {
                "id": f"fc_{number:020d}{index:04d}",
                "type": "function_call",
                "call_id": f"call_{number:020d}{index:04d}",
                "name": call["name"],
                "arguments": msgspec.json.encode(call["arguments"]).decode(),
                "status": "completed",
            }
        )
    return items


def _usage(said: Said) -> JsonObject:
    usage = said.usage
    heard = usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens
    return {
        "input_tokens": heard,
        "input_tokens_details": {
            "cached_tokens": usage.cache_read_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
            "cache_write_tokens_details": {
                "ttl_30m_tokens": usage.cache_write_tokens - said.cache_write_1h,
                "ttl_12h_tokens": said.cache_write_1h,
            },
        },
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": heard + usage.output_tokens,
    }


def _last_message(given: Any) -> tuple[str, int]:
    """Text and number of images of the last message; the input may be a text alone."""
    messages = [{"role": "user", "content": given}] if isinstance(given, str) else given
    if not isinstance(messages, list) or not messages:
        raise Wrong(400, "Missing required parameter: 'input'.")
    read = []
    for index, message in enumerate(messages):
        path = f"input[{index}]"
        if not isinstance(message, dict) or message.get("role") not in ("system", "developer", "user", "assistant"):
            raise Wrong(400, f"Invalid value for '{path}.role'")
        read.append(_content(message.get("content"), path))
    if messages[-1]["role"] != "user":
        raise Wrong(400, "the simulated provider answers a user's message")
    return read[-1]


def _content(content: Any, path: str) -> tuple[str, int]:
    parts = [{"type": "input_text", "text": content}] if isinstance(content, str) else content
    if not isinstance(parts, list) or not parts:
        raise Wrong(400, f"Invalid value for '{path}.content': text or a list of parts is required")
    texts = [str(part["text"]) for part in parts if part.get("type") == "input_text"]
    images = [part for part in parts if part.get("type") == "input_image"]
    if len(texts) + len(images) < len(parts):
        raise Wrong(400, f"Invalid value for '{path}.content': parts of type input_text or input_image are required")
    for image in images:
        service.check_image(image.get("image_url"), f"{path}.image_url")
    return "".join(texts), len(images)


def _check_tools(tools: Any) -> tuple[str, ...]:
    for index, tool in enumerate(tools):
        if tool.get("type") != "function":
            raise Wrong(400, f"Invalid value for 'tools[{index}].type'")
    return tuple(service.check_tool(tool, f"tools[{index}]") for index, tool in enumerate(tools))


def _check_text_format(fields: JsonObject) -> JsonObject | None:
    wanted = fields.get("text", {}).get("format")
    if wanted is None:
        return None
    # Here the messages alone are searched for the word; instructions do not count.
    if isinstance(wanted, dict) and wanted.get("type") == "json_object" and "json" not in str(fields["input"]).lower():
        raise Wrong(400, "Response input messages must contain the word 'json' to use 'text.format' of 'json_object'.")
    return service.check_format(wanted, "text.format")
