"""What the simulated provider's formats have in common: what was asked, what is answered, and how it can go wrong.

A dialect is the provider's side of one wire format. The frontier decides what happens; the dialect says it the way the
vendor does, and refuses what the vendor refuses, so that a client which sends it fails in a test and not in production.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Protocol

import msgspec

from apprentice.remote.prompt import canonical_json
from apprentice.testing.faults import Fault
from apprentice.testing.http_server import Request
from apprentice_actors.ports import JsonObject
from apprentice_events.vocabulary import TokenUsage

JSON_TYPE = {"content-type": "application/json"}
RETRY_AFTER_S = 2
_BYTES_PER_TOKEN = 4


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """An answer with its own token counts; a count left at None is estimated from the length of the text.

    With tools on offer, an ``output`` with ``tool_calls`` becomes calls of them and one with ``content`` plain text.
    """

    output: JsonObject
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    """Contained in ``cache_write_tokens``: the part that is kept for the longer time."""
    reasoning_tokens: int = 0
    """Contained in ``output_tokens``."""
    service_tier: str | None = None
    """The tier that served it; None for the one that was asked for."""
    cost_nd: int | None = None
    """What the provider says it cost, where it says so; None for the cost by its price."""
    logprob: float = -0.01
    """The log-probability of each token, for clients that ask for it."""


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A request that passed the checks. ``text`` is the last user message, ``input`` the JSON object in it."""

    model: str
    max_tokens: int
    text: str
    input: JsonObject
    schema: JsonObject | None
    prompt_bytes: int
    images: int = 0
    tools: tuple[str, ...] = ()
    service_tier: str | None = None
    logprobs: bool = False
    """Whether the log-probabilities of the tokens are wanted."""


class Stop(StrEnum):
    """Why the model stopped, in no vendor's words."""

    done = "done"
    refused = "refused"
    length = "length"
    context = "context"
    paused = "paused"


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """What the model says, and what it counts."""

    text: str
    usage: TokenUsage
    stop: Stop = Stop.done
    calls: tuple[JsonObject, ...] = ()
    """Tool calls: ``{name, arguments}``."""
    cache_write_1h: int = 0
    service_tier: str = "standard"
    cost_nd: int = 0
    logprob: float = 0.0


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """An error response."""

    status: int
    body: bytes
    headers: Mapping[str, str] = {}


class Allowed(msgspec.Struct, frozen=True, kw_only=True):
    """What is left of the limit of requests; ``reset_s`` seconds until it is whole."""

    limit: int
    remaining: int
    reset_s: float
    now_ns: int


class Wrong(Exception):
    """The request is refused with ``status``."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Dialect(Protocol):
    """The provider's side of one wire format."""

    @property
    def name(self) -> str:
        """The format's name in the ledger."""
        ...

    def check(self, request: Request, api_key: str | None) -> Asked:
        """Read a request. Raises :class:`Wrong`. ``api_key`` None lets any key pass, but none is not enough."""
        ...

    def countable(self, usage: TokenUsage, written_1h: int) -> tuple[TokenUsage, int]:
        """The counts as far as the format has words for them; the rest counts as plain input."""
        ...

    def tier(self, asked: str | None) -> str:
        """The service tier that a request for ``asked`` gets, as the response names it."""
        ...

    def answer(self, asked: Asked, number: int, said: Said) -> bytes:
        """The body of a successful response."""
        ...

    def refuse(self, status: int, text: str, number: int, fault: Fault | None, after_s: float | None) -> Refused:
        """An error response; ``after_s`` is the pause to ask for."""
        ...

    def limits(self, allowed: Allowed) -> dict[str, str]:
        """The headers that tell the rate limit."""
        ...


def read_object(body: bytes) -> JsonObject:
    """The request body as an object. Raises :class:`Wrong`."""
    try:
        fields = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Wrong(400, f"The request body is not valid JSON: {error}") from None
    if not isinstance(fields, dict):
        raise Wrong(400, "The request body must be an object")
    return fields


def demand_key(key: str, api_key: str | None, text: str) -> None:
    """Refuse a request without the right key."""
    if not key or (api_key is not None and key != api_key):
        raise Wrong(401, text)


def demand_number(value: Any, name: str, low: float, high: float) -> None:
    """Refuse what is not a number within the bounds; None passes."""
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise Wrong(400, f"{name}: a number from {low} to {high} is required")


def demand_limit(value: Any, name: str) -> int:
    """The output limit. Raises :class:`Wrong` for anything but a whole number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise Wrong(400, f"{name}: a positive integer is required")
    return value


def as_object(text: str) -> JsonObject:
    """The object that a message holds, or the message itself as ``{"text": …}``."""
    try:
        value = msgspec.json.decode(text)
    except msgspec.DecodeError:
        value = None
    return value if isinstance(value, dict) else {"text": text}


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
        reasoning_tokens=min(reply.reasoning_tokens, spoken, asked.max_tokens),
    )


def spoken(asked: Asked, output: JsonObject) -> tuple[str, tuple[JsonObject, ...]]:
    """An answer as the model would write it: text, and calls of the tools on offer."""
    if asked.tools and "tool_calls" in output:
        return "", tuple(output["tool_calls"])
    if asked.tools and set(output) == {"content"}:
        return str(output["content"]), ()
    return canonical_json(output), ()
