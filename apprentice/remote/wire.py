"""What a provider's wire format has to say, apart from how bytes travel: the seam at which providers are added.

A format is pure: it builds request bodies and reads responses. :class:`apprentice.remote.http.HttpModel` does the rest
for all of them: sending, deadlines, retries, rate limits and money.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol

import msgspec

from apprentice.remote.limits import Allowance
from apprentice_actors.ports import JsonObject, Question, RemoteFailureKind
from apprentice_events.vocabulary import TokenUsage

NO_HEADERS: Mapping[str, str] = MappingProxyType({})


class ToolCall(msgspec.Struct, frozen=True, kw_only=True):
    """A call that the model asks for."""

    name: str
    arguments: JsonObject


class Completion(msgspec.Struct, frozen=True, kw_only=True):
    """A response that was billed. ``failed`` holds kind and reason where it is not an answer."""

    id: str = ""
    """The provider's identifier of this response, by which it differs from every other."""
    model: str
    text: str
    usage: TokenUsage
    cache_write_1h_tokens: int = 0
    """The part of ``usage.cache_write_tokens`` that is kept for the longer time."""
    service_tier: str | None = None
    """The tier that the provider says it used, which decides the price."""
    cost_nd: int | None = None
    """The bill in nano-dollars where the provider states it; it goes before the price table."""
    tool_calls: tuple[ToolCall, ...] = ()
    failed: tuple[RemoteFailureKind, str] | None = None


class Rejection(msgspec.Struct, frozen=True, kw_only=True):
    """An error response: the call was not carried out and not billed."""

    kind: RemoteFailureKind
    message: str
    retry: bool
    """Whether the same request may succeed later."""
    after_s: float | None = None
    """The pause that the body asks for, in seconds."""


class Malformed(ValueError):
    """A response under status 200 that is not what the format prescribes; what it cost is not known."""


class WireFormat(Protocol):
    """One provider's requests and responses. Header names are given in lower case."""

    @property
    def provider(self) -> str:
        """The provider's name as in the config and the price table."""
        ...

    @property
    def path(self) -> str:
        """Where requests go, below the base URL."""
        ...

    @property
    def image_tokens(self) -> int:
        """The most tokens that one image can be counted as: what a quote sets aside for it."""
        ...

    def headers(self) -> dict[str, str]:
        """Headers of every request, the key among them."""
        ...

    def encode(self, question: Question) -> bytes:
        """The request body. Raises ``RemoteFailure("bad_request")`` for a question that cannot be written down."""
        ...

    def decode(self, body: bytes, headers: Mapping[str, str] = NO_HEADERS) -> Completion:
        """Read a response with status 200. Raises :class:`Malformed`."""
        ...

    def reject(self, status: int, body: bytes) -> Rejection:
        """Read a response with any other status; whatever the body holds, this does not fail."""
        ...

    def allowances(self, headers: Mapping[str, str], now_ns: int) -> dict[str, Allowance]:
        """What the headers say of the limits ``requests``, ``tokens``, ``input_tokens`` and ``output_tokens``."""
        ...
