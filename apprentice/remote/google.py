"""The ``generateContent`` API of Google's Gemini models.

``promptTokenCount`` includes what was read from the cache; thoughts and the results of tools are counted apart from
candidates and prompt. The pause after a 429 stands in the body. A blocked prompt has no candidates.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import quote

import msgspec

from apprentice.remote.images import Image
from apprentice.remote.limits import Allowance
from apprentice.remote.output_schema import sendable
from apprentice.remote.prompt import compose, written
from apprentice.remote.rejections import kind_of, rejection
from apprentice.remote.secrets import Secret
from apprentice.remote.wire import NO_HEADERS, Completion, Malformed, Rejection, ToolCall
from apprentice_actors.ports import JsonObject, Question, RemoteFailureKind
from apprentice_events.vocabulary import TokenUsage

PROVIDER = "google"
BASE_URL = "https://generativelanguage.googleapis.com"
TIER_HEADER = "x-gemini-service-tier"

type _Count = Annotated[int, msgspec.Meta(ge=0)]


class _Call(msgspec.Struct, frozen=True):
    name: str = ""
    args: JsonObject | None = None


class _Part(msgspec.Struct, frozen=True, rename="camel"):
    text: str = ""
    thought: bool = False
    function_call: _Call | None = None


class _Content(msgspec.Struct, frozen=True):
    parts: list[_Part] = []


class _Candidate(msgspec.Struct, frozen=True, rename="camel"):
    content: _Content = _Content()
    finish_reason: str | None = None


class _Feedback(msgspec.Struct, frozen=True, rename="camel"):
    block_reason: str | None = None


class _Usage(msgspec.Struct, frozen=True, rename="camel"):
    prompt_token_count: _Count = 0
    cached_content_token_count: _Count = 0
    candidates_token_count: _Count = 0
    thoughts_token_count: _Count = 0
    tool_use_prompt_token_count: _Count = 0
    service_tier: str | None = None


class _Response(msgspec.Struct, frozen=True, rename="camel"):
    usage_metadata: _Usage
    candidates: list[_Candidate] = []
    prompt_feedback: _Feedback | None = None
    model_version: str = ""
    response_id: str = ""


class _Violation(msgspec.Struct, frozen=True, rename="camel"):
    quota_value: str = ""


class _Detail(msgspec.Struct, frozen=True, rename="camel"):
    retry_delay: str = ""
    reason: str = ""
    violations: list[_Violation] = []


class _Error(msgspec.Struct, frozen=True):
    status: str = ""
    message: str = ""
    details: list[_Detail] = []


class _ErrorBody(msgspec.Struct, frozen=True):
    error: _Error = _Error()


_read = msgspec.json.Decoder(_Response).decode
_read_error = msgspec.json.Decoder(_ErrorBody).decode

_IMAGE_TOKENS = 10_000
"""Large images are cut into tiles of 258 tokens each; this many tiles do not fit into what the API takes."""
_REFUSED = frozenset(
    {"SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "IMAGE_SAFETY", "PUP_LIMITED_DISABLED"}
)
_SPENT = re.compile(r"limit:\s*0\b|spend(?:ing)? (?:cap|limit)|credits? (?:are|is) depleted", re.IGNORECASE)
"""How a 429 says that waiting cures nothing: no quota at all, or no money left."""


class GeminiFormat:
    """``generateContent`` for one model. ``temperature`` and ``service_tier`` None leave both to the provider."""

    provider = PROVIDER
    image_tokens = _IMAGE_TOKENS

    def __init__(
        self, model: str, api_key: Secret, *, temperature: float | None = None, service_tier: str | None = None
    ) -> None:
        self._model = model.removeprefix("models/")
        self._api_key = api_key
        self._temperature = temperature
        self._service_tier = service_tier
        self.path = f"/v1beta/models/{quote(self._model, safe='')}:generateContent"

    def headers(self) -> dict[str, str]:
        """Headers of every request."""
        return {
            "content-type": "application/json",
            "accept": "application/json",
            "x-goog-api-key": self._api_key.reveal(),
        }

    def encode(self, question: Question) -> bytes:
        """The request body: system instruction, examples as earlier turns, the input, and the schema."""
        return written(question, self._body)

    def _body(self, question: Question) -> JsonObject:
        wanted = None if question.tools else question.output_schema
        schema = None if wanted is None else sendable(wanted)
        prompt = compose(question, schema_is_enforced=schema is not None)
        generation: JsonObject = {"maxOutputTokens": question.max_output_tokens}
        if self._temperature is not None:
            generation["temperature"] = self._temperature
        if not question.tools:
            generation["responseMimeType"] = "application/json"
        if schema is not None:
            generation["responseJsonSchema"] = _without_const(schema)
        body: JsonObject = {
            "systemInstruction": {"parts": [_text_part(prompt.system)]},
            "contents": [
                {"role": role, "parts": [_text_part(content)] if isinstance(content, str) else content}
                for role, content in prompt.messages(("user", "model"), _text_part, _image_part)
            ],
            "generationConfig": generation,
        }
        if question.tools:
            body["tools"] = [{"functionDeclarations": [_declaration(tool) for tool in question.tools]}]
        if self._service_tier is not None:
            body["serviceTier"] = self._service_tier
        return body

    def decode(self, body: bytes, headers: Mapping[str, str] = NO_HEADERS) -> Completion:
        """Read a response. Raises :class:`Malformed` for anything else under status 200."""
        try:
            answer = _read(body)
        except (msgspec.DecodeError, RecursionError) as error:
            raise Malformed(f"what came under status 200 is not a response with its usage: {error}") from None
        parts = answer.candidates[0].content.parts if answer.candidates else []
        calls = [part.function_call for part in parts if part.function_call is not None]
        return Completion(
            id=answer.response_id,
            model=answer.model_version or self._model,
            text="".join(part.text for part in parts if not part.thought),
            usage=_counted(answer.usage_metadata),
            # Where the response is silent, what was asked for is what is billed.
            service_tier=headers.get(TIER_HEADER) or answer.usage_metadata.service_tier or self._service_tier,
            tool_calls=tuple(ToolCall(name=call.name, arguments=call.args or {}) for call in calls),
            failed=_failed(answer),
        )

    def reject(self, status: int, body: bytes) -> Rejection:
        """Tell what an error response means and whether waiting can cure it."""
        try:
            error = _read_error(body).error
        except (msgspec.DecodeError, RecursionError):
            error = _Error()
        delays = [found for detail in error.details if (found := _seconds(detail.retry_delay)) is not None]
        kind = _kind(status, error)
        return rejection(status, kind, (error.status, error.message), after_s=max(delays, default=None))

    def allowances(self, headers: Mapping[str, str], now_ns: int) -> dict[str, Allowance]:
        """Nothing: the API does not tell its limits in headers."""
        return {}


def _counted(usage: _Usage) -> TokenUsage:
    fresh = usage.prompt_token_count - usage.cached_content_token_count
    if fresh < 0:
        raise Malformed(f"the prompt of {usage.prompt_token_count} tokens is said to have more cached ones")
    return TokenUsage(
        input_tokens=fresh + usage.tool_use_prompt_token_count,
        output_tokens=usage.candidates_token_count + usage.thoughts_token_count,
        cache_read_tokens=usage.cached_content_token_count,
        reasoning_tokens=usage.thoughts_token_count,
    )


def _failed(answer: _Response) -> tuple[RemoteFailureKind, str] | None:
    if answer.prompt_feedback is not None and answer.prompt_feedback.block_reason:
        return "refusal", f"the prompt was blocked ({answer.prompt_feedback.block_reason})"
    if not answer.candidates:
        return "invalid", "the response has no candidate"
    match answer.candidates[0].finish_reason:
        case "STOP" | None:
            return None
        case "MAX_TOKENS":
            return "cut_off", "the answer hit the output limit; raise max_output_tokens if answers are that long"
        case reason if reason in _REFUSED:
            return "refusal", f"the provider stopped the answer ({reason})"
        case reason:
            return "invalid", f"the candidate finished with {reason!r} where a finished answer was expected"


def _kind(status: int, error: _Error) -> RemoteFailureKind:
    reasons = {detail.reason for detail in error.details}
    if status == 400 and "API_KEY_INVALID" in reasons:
        return "auth"
    nothing = any(violation.quota_value == "0" for detail in error.details for violation in detail.violations)
    if status in (400, 403, 429) and (nothing or "BILLING_DISABLED" in reasons or _SPENT.search(error.message)):
        return "spend_limit"
    return kind_of(status)


def _seconds(text: str) -> float | None:
    """A duration in the API's JSON form, such as ``21s`` or ``0.5s``; None for anything else."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)s", text)
    return float(found[1]) if found else None


def _without_const(part: Any) -> Any:
    """The schema with ``const`` written as a list of one value, which is how this API takes it."""
    if isinstance(part, list):
        return [_without_const(item) for item in part]
    if not isinstance(part, dict):
        return part
    return {
        ("enum" if key == "const" else key): [value] if key == "const" else _without_const(value)
        for key, value in part.items()
    }


def _declaration(tool: JsonObject) -> JsonObject:
    return {"name": tool["name"], "description": tool["description"], "parametersJsonSchema": tool["parameters"]}


def _text_part(text: str) -> JsonObject:
    return {"text": text}


def _image_part(image: Image) -> JsonObject:
    if not image.url:
        return {"inlineData": {"mimeType": image.media_type, "data": image.data}}
    kind = {"mimeType": image.media_type} if image.media_type else {}
    return {"fileData": {"fileUri": image.url, **kind}}
