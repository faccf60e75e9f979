"""What Chat Completions and Responses have in common, at OpenAI itself and at those who copy it.

Servers differ in where the key goes, in the name of the output limit and in whose word counts for the bill; a
:class:`Server` says so as data. Errors and rate-limit headers are the same everywhere, or absent.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec

from apprentice.remote.limits import Allowance
from apprentice.remote.output_schema import strict
from apprentice.remote.prompt import NotAnObject, parse_object
from apprentice.remote.rejections import kind_of, rejection
from apprentice.remote.secrets import Secret
from apprentice.remote.wire import Malformed, Rejection, ToolCall
from apprentice_actors.ports import JsonObject, Question, RemoteFailureKind
from apprentice_events.vocabulary import TokenUsage

BASE_URL = "https://api.openai.com/v1"
IMAGE_TOKENS = 50_000
"""The smallest models count an image at full detail as up to 48,169 tokens."""

type Count = Annotated[int, msgspec.Meta(ge=0)]

_SPENT = frozenset(
    {
        "insufficient_quota",
        "credit_balance_exhausted",
        "billing_hard_limit_reached",
        "billing_not_active",
        "organization_spend_limit_exceeded",
        "project_spend_limit_exceeded",
        "organization_usage_limit_exceeded",
    }
)
"""Codes of errors, most of them under status 429, that no retry can cure."""
_REFUSED = frozenset({"content_filter", "content_policy_violation", "bio_policy", "cyber_policy_violation"})
_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?")


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """How one provider's copy of the API is spoken to. ``provider`` is its name in the config and the price table."""

    provider: str
    path: str
    key_header: Literal["authorization", "api-key"] = "authorization"
    limit_field: str = "max_completion_tokens"
    """The name of the output limit in Chat Completions."""
    json_mode: bool = True
    """Whether a schema that cannot be enforced may be replaced by the demand for any JSON object."""
    states_cost: bool = False
    """Whether ``usage.cost`` is the bill."""
    extra: JsonObject = {}
    """Further fields of every request body."""

    def headers(self, api_key: Secret | None) -> dict[str, str]:
        """Headers of every request; a server of one's own may go without a key."""
        headers = {"content-type": "application/json", "accept": "application/json"}
        if api_key is not None:
            bearer = self.key_header == "authorization"
            headers[self.key_header] = f"Bearer {api_key.reveal()}" if bearer else api_key.reveal()
        return headers


def strict_schema(question: Question) -> JsonObject | None:
    """The schema to be enforced, as ``{name, schema, strict}``; None where there is none that could be."""
    wanted = None if question.tools else question.output_schema
    schema = None if wanted is None else strict(wanted)
    if schema is None:
        return None
    return {"name": re.sub(r"[^a-zA-Z0-9_-]", "_", question.task)[:64] or "answer", "schema": schema, "strict": True}


def usage(
    prompt: int, completion: int, *, cached: int | None, written: int | None, reasoning: int | None, total: int = 0
) -> TokenUsage:
    """Counts of this API, where the prompt includes what the cache read and wrote. Raises :class:`Malformed`.

    ``total`` counts where it is higher: some copies leave the reasoning out of ``completion``.
    """
    fresh = prompt - (cached or 0) - (written or 0)
    if fresh < 0:
        raise Malformed(f"the prompt of {prompt} tokens is said to have {cached} cached and {written} written ones")
    return TokenUsage(
        input_tokens=fresh,
        output_tokens=max(completion, total - prompt),
        cache_read_tokens=cached or 0,
        cache_write_tokens=written or 0,
        reasoning_tokens=reasoning or 0,
    )


def tool_call(name: str, arguments: str) -> ToolCall | None:
    """A call as the API writes it, with its arguments as JSON text; None if that is not an object."""
    try:
        return ToolCall(name=name, arguments=parse_object(arguments))
    except NotAnObject:
        return None


def reject(status: int, body: bytes) -> Rejection:
    """What an error response means. Copies of the API write ``{"error": {…}}``, ``{"error": text}`` or no object."""
    error = _error_of(body)
    code, kind = str(error.get("code") or ""), str(error.get("type") or "")
    meaning = _meaning(status, {code, kind}, error)
    labels = tuple(dict.fromkeys(label for label in (kind, code) if label))
    return rejection(status, meaning, (*labels, str(error.get("message") or "")))


def _error_of(body: bytes) -> JsonObject:
    try:
        content = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return {}
    error: Any = content.get("error", content) if isinstance(content, dict) else None
    return error if isinstance(error, dict) else {"message": error} if isinstance(error, str) else {}


def _meaning(status: int, labels: set[str], error: JsonObject) -> RemoteFailureKind:
    if labels & _SPENT:
        return "spend_limit"
    metadata = error.get("metadata")
    flagged = status == 403 and isinstance(metadata, dict) and "reasons" in metadata
    if labels & _REFUSED or flagged:
        return "refusal"
    return kind_of(status)


def allowances(headers: Mapping[str, str]) -> dict[str, Allowance]:
    """Read ``x-ratelimit-*``; a limit whose three headers are not all there and sound is left out."""
    found = {}
    for name in ("requests", "tokens"):
        try:
            found[name] = Allowance(
                limit=float(headers[f"x-ratelimit-limit-{name}"]),
                remaining=float(headers[f"x-ratelimit-remaining-{name}"]),
                reset_s=duration_s(headers[f"x-ratelimit-reset-{name}"]),
            )
        except (KeyError, ValueError):
            continue
    return found


def duration_s(text: str) -> float:
    """Seconds of a duration such as ``12ms``, ``6m0s`` or ``1h2m3.5s``. Raises ``ValueError``."""
    parts = _DURATION.fullmatch(text)
    if not text or parts is None:
        raise ValueError(f"{text!r} is not a duration such as 1m3s")
    hours, minutes, seconds, milliseconds = (float(part or 0) for part in parts.groups())
    return hours * 3600 + minutes * 60 + seconds + milliseconds / 1000
