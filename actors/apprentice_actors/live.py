"""A request as long as somebody works on it: the objects behind the digests, the callers who wait, the deadline."""

from typing import Any

import msgspec

from apprentice_events.bodies import Body

from .actor import Reply
from .commands import Request
from .ports import JsonObject, Question


class Served(msgspec.Struct, frozen=True, kw_only=True):
    """What the caller gets."""

    request: str
    output: JsonObject


class RequestDenied(Exception):
    """There is no answer. ``error`` names a class of the public error tree, ``reopens`` an ISO 8601 time or nothing."""

    def __init__(self, error: str, reason: str, reopens: str = "", request: str = "") -> None:
        super().__init__(reason)
        self.error = error
        self.reason = reason
        self.reopens = reopens
        self.request = request


class SubmitRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Ask: answer this input. Fails with :class:`RequestDenied`."""

    input: JsonObject
    content: bytes
    """The input's canonical JSON."""
    key: str | None
    tags: tuple[str, ...]
    timeout_s: float
    reply: Reply[Served]


class Live:
    """The working copy of one request."""

    __slots__ = (
        "content",
        "deadline",
        "local",
        "pending",
        "question",
        "remote",
        "repeat",
        "replies",
        "request",
        "rival",
        "served",
        "settled",
        "tried",
    )

    def __init__(self, request: Request, question: Question, content: bytes, deadline: float) -> None:
        self.request = request
        self.question = question
        self.content = content
        self.deadline = deadline
        """Monotonic time by which the caller must have an answer."""
        self.replies: list[Reply[Served]] = []
        self.local: JsonObject | None = None
        self.rival: JsonObject | None = None
        self.remote: JsonObject | None = None
        self.repeat: JsonObject | None = None
        """The same teacher's answer to the same question, asked a second time."""
        self.pending = 0
        """Effects under way for it."""
        self.tried: set[str] = set()
        """Teachers that were asked."""
        self.settled = False
        """Whether the callers have their answer or error."""
        self.served: Served | None = None
        """The answer, for those who ask again while the rest of the request is under way."""

    @property
    def failed(self) -> bool:
        """Whether the callers got an error: the same key may be tried again."""
        return self.settled and self.served is None

    def join(self, reply: Reply[Served]) -> None:
        """Let one more caller have the answer."""
        if self.served is not None:
            reply.set(self.served)
        else:
            self.replies.append(reply)

    def answer(self, output: JsonObject) -> None:
        """Give everybody who waits the output."""
        self.settled = True
        self.served = Served(request=self.request.id, output=output)
        for reply in self.replies:
            reply.set(self.served)
        self.replies.clear()

    def deny(self, error: str, reason: str, reopens: str = "") -> None:
        """Tell everybody who waits that there is none."""
        self.settled = True
        for reply in self.replies:
            reply.fail(RequestDenied(error, reason, reopens, self.request.id))
        self.replies.clear()


class BodyShelf:
    """Bodies made but not yet named by a durable event."""

    def __init__(self) -> None:
        self._bodies: dict[str, Body] = {}

    def put(self, body: Body) -> str:
        """Keep it until an event names it; its digest."""
        self._bodies[body.digest] = body
        return body.digest

    def forget(self, digest: str) -> None:
        """No event will name it."""
        self._bodies.pop(digest, None)

    def take_named(self, event: Any) -> list[Body]:
        """The bodies that ``event`` names for the first time."""
        if not self._bodies:
            return []
        digests = (getattr(event, "input", None), getattr(event, "output", None), getattr(event, "comment", None))
        return [self._bodies.pop(digest) for digest in digests if digest in self._bodies]
