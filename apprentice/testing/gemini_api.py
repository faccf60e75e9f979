"""The provider's side of Google's ``generateContent``: errors in the form of google.rpc.Status, pauses in the body."""

from typing import Any
from urllib.parse import unquote

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

_FIELDS = frozenset(
    {"contents", "systemInstruction", "generationConfig", "tools", "toolConfig", "safetySettings", "serviceTier"}
)
_GENERATION = frozenset(
    {"maxOutputTokens", "responseMimeType", "responseJsonSchema", "responseSchema", "temperature", "topP", "topK",
     "candidateCount", "stopSequences", "thinkingConfig", "seed"}
)  # fmt: skip
_LIMIT = 8192
_STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    402: "FAILED_PRECONDITION",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    408: "DEADLINE_EXCEEDED",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_TEXTS = {
    Fault.spend_limit: "You exceeded your current quota. Quota exceeded for metric: input_token_count, limit: 0",
    Fault.usage_limit: "Your prepayment credits are depleted.",
}
_STOPS = {Stop.done: "STOP", Stop.length: "MAX_TOKENS", Stop.context: "MAX_TOKENS", Stop.paused: "OTHER"}


class GeminiApi:
    """``generateContent``."""

    name = "gemini"

    def check(self, request: Request, api_key: str | None) -> Asked:
        """Read a request. Raises :class:`Wrong`."""
        key = request.headers.get("x-goog-api-key", "")
        demand_key(key, api_key, "API key not valid." if key else "The request is missing a valid API key.")
        fields = read_object(request.body)
        generation = fields.get("generationConfig", {})
        if unknown := sorted((set(fields) - _FIELDS) | (set(generation) - _GENERATION)):
            raise Wrong(400, f'Invalid JSON payload received. Unknown name "{unknown[0]}": Cannot find field.')
        demand_number(generation.get("temperature"), "temperature", 0, 2)
        schema = generation.get("responseJsonSchema")
        if schema is not None and (not isinstance(schema, dict) or "'const'" in str(schema)):
            raise Wrong(400, "generation_config.response_json_schema: a schema without const is required")
        if schema is not None and generation.get("responseMimeType") != "application/json":
            raise Wrong(400, "A schema needs the response mime type application/json")
        text, images = _last_content(fields.get("contents"))
        return Asked(
            model=unquote(request.path.partition("/models/")[2].partition(":")[0]),
            max_tokens=demand_limit(generation.get("maxOutputTokens", _LIMIT), "max_output_tokens"),
            text=text,
            input=as_object(text),
            schema=schema,
            prompt_bytes=len(request.body),
            images=images,
            tools=_check_tools(fields.get("tools", [])),
            service_tier=_check_tier(fields.get("serviceTier")),
        )

    def countable(self, usage: TokenUsage, written_1h: int) -> tuple[TokenUsage, int]:
        """Writes to the cache are plain input here."""
        plain = usage.input_tokens + usage.cache_write_tokens
        return msgspec.structs.replace(usage, input_tokens=plain, cache_write_tokens=0), 0

    def tier(self, asked: str | None) -> str:
        """The tier as the response names it."""
        return asked or "standard"

    def answer(self, asked: Asked, number: int, said: Said) -> bytes:
        """The body of a response; a refused prompt is blocked and has no candidates."""
        parts: list[JsonObject] = [{"text": said.text}] if said.text else []
        parts += [{"functionCall": {"name": call["name"], "args": call["arguments"]}} for call in said.calls]
        body: JsonObject = {
            "usageMetadata": _usage(said),
            "modelVersion": asked.model,
            "responseId": f"resp{number:020d}",
        }
        if said.stop is Stop.refused:
            return msgspec.json.encode({"promptFeedback": {"blockReason": "SAFETY"}, **body})
        candidate = {"content": {"parts": parts, "role": "model"}, "finishReason": _STOPS[said.stop], "index": 0}
        return msgspec.json.encode({"candidates": [candidate], **body})

    def refuse(self, status: int, text: str, number: int, fault: Fault | None, after_s: float | None) -> Refused:
        """An error response."""
        name = "FAILED_PRECONDITION" if fault is Fault.usage_limit else _STATUSES.get(status, "UNKNOWN")
        error: JsonObject = {"code": status, "message": _TEXTS.get(fault, text) if fault else text, "status": name}
        if after_s is not None:
            pause = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{after_s:.0f}s"}
            error["details"] = [pause]
        return Refused(status=status, body=msgspec.json.encode({"error": error}), headers=JSON_TYPE)

    def limits(self, allowed: Allowed) -> dict[str, str]:
        """Nothing: limits are not told in headers."""
        return {}


def _usage(said: Said) -> JsonObject:
    usage = said.usage
    prompt = usage.input_tokens + usage.cache_read_tokens
    counted = {
        "promptTokenCount": prompt,
        "candidatesTokenCount": usage.output_tokens - usage.reasoning_tokens,
        "totalTokenCount": prompt + usage.output_tokens,
        "cachedContentTokenCount": usage.cache_read_tokens,
        "thoughtsTokenCount": usage.reasoning_tokens,
    }
    return {name: count for name, count in counted.items() if count or name == "promptTokenCount"}


def _last_content(contents: Any) -> tuple[str, int]:
    """Text and number of images of the last content."""
    if not isinstance(contents, list) or not contents:
        raise Wrong(400, "* GenerateContentRequest.contents: contents is not specified")
    if any(content.get("role", "user") not in ("user", "model") for content in contents):
        raise Wrong(400, "Please use a valid role: user, model.")
    if contents[-1].get("role", "user") != "user":
        raise Wrong(400, "the simulated provider answers a user's content")
    texts, images = [], 0
    for part in contents[-1].get("parts", []):
        image = part.get("inlineData") or part.get("fileData")
        # JSON of protocol buffers takes names in either spelling, and the vendor's own client mixes them.
        known = {name.replace("mime_type", "mimeType").replace("file_uri", "fileUri") for name in image or ()}
        if image is not None and not ({"mimeType", "data"} <= known or "fileUri" in known):
            raise Wrong(400, "an image needs inlineData with mimeType and data, or fileData with fileUri")
        images += image is not None
        texts.append(str(part.get("text", "")))
    return "".join(texts), images


def _check_tools(tools: Any) -> tuple[str, ...]:
    declared = [each for tool in tools for each in tool.get("functionDeclarations", [])]
    for each in declared:
        spellings = ("parametersJsonSchema", "parameters_json_schema", "parameters")
        if not each.get("name") or not any(isinstance(each.get(spelling), dict) for spelling in spellings):
            raise Wrong(400, "a function declaration needs a name and parameters")
    return tuple(each["name"] for each in declared)


def _check_tier(tier: str | None) -> str | None:
    if tier is not None and tier not in ("standard", "flex", "priority"):
        raise Wrong(400, f"Invalid value at 'service_tier': {tier!r}")
    return tier
