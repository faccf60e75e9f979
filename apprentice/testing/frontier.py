"""A simulated frontier model: a real HTTP server on loopback that speaks the Messages API, fails on demand and keeps
a ledger of everything it was asked and everything it would have billed.

    async with Frontier(answer=lambda asked: {"label": "billing"}) as frontier:
        ...  # point a client at frontier.url

On a virtual-time loop, where sockets are not allowed, ``httpx.AsyncClient(transport=frontier.transport())`` reaches the
same model without a server.
"""

import math
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

import msgspec

from apprentice.remote.limits import Bucket
from apprentice.remote.pricing import Price
from apprentice.remote.prompt import canonical_json
from apprentice.system import SystemClock
from apprentice.testing import messages_api as api
from apprentice.testing.faults import Fault, FaultPlan
from apprentice.testing.http_server import Ending, HttpServer, Request, Response
from apprentice.testing.messages_api import Asked, Reply
from apprentice.testing.transport import FrontierTransport
from apprentice_actors.ports import Clock, JsonObject
from apprentice_events.vocabulary import TokenUsage

type Answer = Callable[[JsonObject], JsonObject | Reply]
type Latency = float | Callable[[int], float]

RETRY_AFTER_S = 2
_PATH = "/v1/messages"
_JSON = {"content-type": "application/json"}

_ERRORS: dict[Fault, tuple[int, str, str]] = {
    Fault.rate_limited: (429, "rate_limit_error", "This request would exceed your organization's rate limit."),
    Fault.rate_limited_silently: (429, "rate_limit_error", "Number of requests has exceeded your rate limit."),
    Fault.spend_limit: (429, "rate_limit_error", "Your organization has reached its monthly spend."),
    Fault.usage_limit: (400, "invalid_request_error", "You have reached your specified API usage limits."),
    Fault.bad_request: (400, "invalid_request_error", "The request is not valid."),
    Fault.unauthorized: (401, "authentication_error", "invalid x-api-key"),
    Fault.billing: (402, "billing_error", "There is an issue with your billing."),
    Fault.forbidden: (403, "permission_error", "Your key may not use this model."),
    Fault.not_found: (404, "not_found_error", "model not found"),
    Fault.request_timeout: (408, "timeout_error", "The request took too long to arrive."),
    Fault.conflict: (409, "invalid_request_error", "The resource changed meanwhile."),
    Fault.too_large: (413, "request_too_large", "The request exceeds the maximum size."),
    Fault.server_error: (500, "api_error", "Internal server error"),
    Fault.final_server_error: (500, "api_error", "Internal server error"),
    Fault.unavailable: (503, "api_error", "Service unavailable"),
    Fault.gateway_timeout: (504, "timeout_error", "The request timed out."),
    Fault.overloaded: (529, "overloaded_error", "Overloaded"),
}
_STOPS = {
    Fault.refusal: "refusal",
    Fault.paused: "pause_turn",
    Fault.max_tokens: "max_tokens",
    Fault.context_window: "model_context_window_exceeded",
}
_TEXTS = {
    Fault.refusal: "",
    Fault.not_json: "I would rather explain this in a few words.",
    Fault.not_an_object: "[1,2,3]",
    Fault.wrong_schema: '{"unexpected_field":true}',
}


class Call(msgspec.Struct, kw_only=True):
    """One line of the ledger. ``status`` is 0 where no response came out; ``billed_nd`` 0 without a price."""

    index: int
    status: int
    fault: Fault | None
    model: str | None = None
    input: JsonObject | None = None
    usage: TokenUsage | None = None
    """None for what is not billed."""
    billed_nd: int = 0
    abandoned: bool = False
    """The client went away before it had the whole response."""


class Frontier:
    """The simulated provider.

    ``answer`` maps an input to an output (or a :class:`Reply` with token counts); a ``LookupError`` from it becomes a
    400. ``latency`` is in seconds, or a function of the request's index. ``rate_limit`` is in requests per minute,
    enforced as a token bucket and told in the headers. ``price`` fills ``billed_nd``. ``api_key`` None lets any key
    pass. ``slow_s`` is how long :attr:`Fault.slow` takes. Requests with a fault that looks like an answer are billed,
    and so are those that the client abandons.
    """

    def __init__(
        self,
        answer: Answer,
        *,
        latency: Latency = 0.0,
        faults: FaultPlan | None = None,
        rate_limit: int | None = None,
        price: Price | None = None,
        api_key: str | None = None,
        slow_s: float = 5.0,
        clock: Clock | None = None,
    ) -> None:
        self._answer = answer
        self._latency = latency
        self._faults = faults or FaultPlan()
        self._price = price
        self._api_key = api_key
        self._slow_s = slow_s
        self._clock = clock or SystemClock()
        self._bucket = None if rate_limit is None else Bucket(rate_limit, rate_limit / 60, self._clock.monotonic())
        self._server = HttpServer(self.handle, self._clock.sleep)
        self._asked: Counter[str] = Counter()
        self._billed: Counter[str] = Counter()
        self.calls: list[Call] = []
        """The ledger, in the order of arrival."""

    async def __aenter__(self) -> Self:
        await self._server.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._server.stop()

    @property
    def url(self) -> str:
        """The base URL to give to a client."""
        return f"http://127.0.0.1:{self._server.port}"

    @property
    def open_connections(self) -> int:
        """How many clients are connected."""
        return self._server.open_connections

    @property
    def billed_nd(self) -> int:
        """What all calls together were billed, in nano-dollars."""
        return sum(call.billed_nd for call in self.calls)

    def transport(self) -> FrontierTransport:
        """A transport for ``httpx`` that reaches this model without a socket."""
        return FrontierTransport(self.handle, self._clock.sleep)

    def fail_next(self, fault: Fault, count: int = 1) -> None:
        """Let the next ``count`` requests fail."""
        self._faults.fail_next(fault, count)

    def times_asked(self, asked: JsonObject) -> int:
        """How many valid requests came for this input, failed ones included."""
        return self._asked[canonical_json(asked)]

    def times_billed(self, asked: JsonObject) -> int:
        """How many requests for this input were billed."""
        return self._billed[canonical_json(asked)]

    def handle(self, request: Request) -> Response:
        """Answer one request; pure but for the ledger, the rate limit and the draw of faults."""
        call = Call(index=len(self.calls), status=200, fault=self._faults.draw(len(self.calls)))
        self.calls.append(call)
        try:
            asked = self._check(request)
        except api.Wrong as wrong:
            return self._refuse(call, wrong.status, wrong.kind, str(wrong))
        call.model, call.input = asked.model, asked.input
        self._asked[canonical_json(asked.input)] += 1
        waiting = self._waiting_s()
        if waiting > 0:
            after = {"retry-after": str(math.ceil(waiting))}
            return self._refuse(call, 429, "rate_limit_error", "Too many requests.", after)
        if call.fault in _ERRORS:
            return self._fail(call, call.fault)
        if call.fault is Fault.bad_gateway:
            call.status = 502
            return Response(status=502, body=b"<html>Bad gateway</html>", headers={"content-type": "text/html"})
        return self._succeed(call, asked)

    def _check(self, request: Request) -> Asked:
        if request.path.partition("?")[0] != _PATH:
            raise api.Wrong(404, "not_found_error", f"{request.path} does not exist")
        if request.method != "POST":
            raise api.Wrong(405, "invalid_request_error", "Method Not Allowed")
        return api.check(request.headers, request.body, self._api_key)

    def _refuse(
        self,
        call: Call,
        status: int,
        kind: str,
        text: str,
        headers: dict[str, str] | None = None,
        code: str | None = None,
    ) -> Response:
        call.status = status
        body = api.error(kind, text, call.index, code)
        return Response(status=status, body=body, headers={**_JSON, **self._limits(), **(headers or {})})

    def _fail(self, call: Call, fault: Fault) -> Response:
        status, kind, text = _ERRORS[fault]
        match fault:
            case Fault.rate_limited:
                return self._refuse(call, status, kind, text, {"retry-after": str(RETRY_AFTER_S)})
            case Fault.spend_limit:
                return self._refuse(call, status, kind, text, code="enforced_spend_limit_reached")
            case Fault.final_server_error:
                return self._refuse(call, status, kind, text, {"x-should-retry": "false"})
            case _:
                return self._refuse(call, status, kind, text)

    def _succeed(self, call: Call, asked: Asked) -> Response:
        try:
            answer = self._answer(asked.input)
        except LookupError as error:
            return self._refuse(call, 400, "invalid_request_error", f"the simulated model has no answer: {error}")
        reply = answer if isinstance(answer, Reply) else Reply(output=answer)
        full = _TEXTS.get(call.fault, "") if call.fault in _TEXTS else api.text_of(reply.output)
        usage = api.usage_of(asked, reply, full)
        text, stop_reason = full, _STOPS.get(call.fault, "end_turn") if call.fault else "end_turn"
        cut = stop_reason in ("max_tokens", "model_context_window_exceeded")
        if cut or (reply.output_tokens or 0) > asked.max_tokens or len(full) > 4 * asked.max_tokens:
            text = full[: min(len(full) // 2, 4 * asked.max_tokens)]
            stop_reason = stop_reason if cut else "max_tokens"
        self._bill(call, usage, reply.cache_write_1h_tokens)
        body = api.message(
            asked, call.index, text, usage, stop_reason=stop_reason, cache_write_1h=reply.cache_write_1h_tokens
        )
        return self._deliver(call, b'{"type":"mess' if call.fault is Fault.garbled else body)

    def _bill(self, call: Call, usage: TokenUsage, written_1h: int) -> None:
        call.usage = usage
        self._billed[canonical_json(call.input)] += 1
        if self._price is not None:
            call.billed_nd = self._price.cost_nd(usage, cache_write_1h_tokens=written_1h)

    def _deliver(self, call: Call, body: bytes) -> Response:
        endings = {
            Fault.hang: Ending.never,
            Fault.cut_connection: Ending.silent,
            Fault.cut_body: Ending.cut,
        }
        ending = endings.get(call.fault, Ending.complete) if call.fault else Ending.complete
        if ending in (Ending.never, Ending.silent):
            call.status = 0
        delay_s = self._latency(call.index) if callable(self._latency) else self._latency

        def abandoned() -> None:
            call.abandoned = True

        return Response(
            status=200,
            body=body,
            headers={**_JSON, **self._limits(), "request-id": f"req_{call.index:024d}"},
            delay_s=delay_s + (self._slow_s if call.fault is Fault.slow else 0.0),
            ending=ending,
            abandoned=abandoned,
        )

    def _waiting_s(self) -> float:
        if self._bucket is None:
            return 0.0
        now = self._clock.monotonic()
        wait = self._bucket.peek(1, now)
        if wait == 0:
            self._bucket.take(1, now)
        return wait

    def _limits(self) -> dict[str, str]:
        if self._bucket is None:
            return {}
        bucket = self._bucket
        full_in_s = (bucket.capacity - bucket.level) / bucket.rate
        reset = datetime.fromtimestamp(self._clock.now_ns() / 1e9 + full_in_s, UTC)
        prefix = "anthropic-ratelimit-requests-"
        return {
            prefix + "limit": str(int(bucket.capacity)),
            prefix + "remaining": str(max(0, int(bucket.level))),
            prefix + "reset": reset.isoformat().replace("+00:00", "Z"),
        }
