"""A simulated frontier model: a real HTTP server on loopback that speaks every provider's format, fails on demand and
keeps a ledger of everything it was asked and everything it would have billed.

    async with Frontier(answer=lambda asked: {"label": "billing"}) as frontier:
        ...  # point a client at frontier.url: Messages, Chat Completions, Responses or generateContent, by path

On a virtual-time loop, where sockets are not allowed, ``httpx.AsyncClient(transport=frontier.transport())`` reaches the
same model without a server.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

import msgspec

from apprentice.remote.google import TIER_HEADER
from apprentice.remote.limits import Bucket
from apprentice.remote.pricing import Price
from apprentice.remote.prompt import canonical_json
from apprentice.system import SystemClock
from apprentice.testing.chat_api import ChatApi
from apprentice.testing.dialect import (
    JSON_TYPE,
    RETRY_AFTER_S,
    Allowed,
    Asked,
    Dialect,
    Reply,
    Said,
    Stop,
    Wrong,
    spoken,
    usage_of,
)
from apprentice.testing.faults import Fault, FaultPlan
from apprentice.testing.gemini_api import GeminiApi
from apprentice.testing.http_server import Ending, HttpServer, Request, Response
from apprentice.testing.messages_api import MessagesApi
from apprentice.testing.model_api import Announced, answer_about
from apprentice.testing.responses_api import ResponsesApi
from apprentice.testing.transport import FrontierTransport
from apprentice.testing.tuning_api import SECONDS, TuningApi
from apprentice_actors.ports import Clock, JsonObject
from apprentice_events.vocabulary import TokenUsage

type Answer = Callable[[JsonObject], JsonObject | Reply]
type Latency = float | Callable[[int], float]

_ERRORS: dict[Fault, tuple[int, str]] = {
    Fault.rate_limited: (429, "This request would exceed your organization's rate limit."),
    Fault.rate_limited_silently: (429, "Number of requests has exceeded your rate limit."),
    Fault.spend_limit: (429, "Your organization has reached its monthly spend."),
    Fault.usage_limit: (400, "You have reached your specified API usage limits."),
    Fault.bad_request: (400, "The request is not valid."),
    Fault.unauthorized: (401, "The API key is not valid."),
    Fault.billing: (402, "There is an issue with your billing."),
    Fault.forbidden: (403, "Your key may not use this model."),
    Fault.not_found: (404, "model not found"),
    Fault.request_timeout: (408, "The request took too long to arrive."),
    Fault.conflict: (409, "The resource changed meanwhile."),
    Fault.too_large: (413, "The request exceeds the maximum size."),
    Fault.server_error: (500, "Internal server error"),
    Fault.final_server_error: (500, "Internal server error"),
    Fault.unavailable: (503, "Service unavailable"),
    Fault.gateway_timeout: (504, "The request timed out."),
    Fault.overloaded: (529, "Overloaded"),
}
_STOPS = {
    Fault.refusal: Stop.refused,
    Fault.paused: Stop.paused,
    Fault.max_tokens: Stop.length,
    Fault.context_window: Stop.context,
}
_ENDINGS = {
    Fault.hang: Ending.never,
    Fault.cut_connection: Ending.silent,
    Fault.cut_body: Ending.cut,
    Fault.duplicate: Ending.twice,
}
_CHAT = ChatApi()
_DIALECTS: tuple[tuple[re.Pattern[str], Dialect], ...] = (
    (re.compile(r"/v1/messages"), MessagesApi()),
    (re.compile(r"(?:/openai)?/v1/chat/completions|/openai/deployments/[^/]+/chat/completions"), _CHAT),
    (re.compile(r"/api/v1/chat/completions"), ChatApi(routed=True)),
    (re.compile(r"(?:/openai)?/v1/responses"), ResponsesApi()),
    (re.compile(r"/v1(?:beta)?/models/[^/:]+:generateContent"), GeminiApi()),
)
"""Each path speaks one format, all on the same port."""
_TUNING = "fine_tuning"
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
    api: str | None = None
    """The format that was spoken; None for a path that does not exist."""
    model: str | None = None
    images: int = 0
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
    pass. ``slow_s`` is how long :attr:`Fault.slow` takes, ``tuning_s`` how long a fine-tuning job does. Requests with a
    fault that looks like an answer are billed, and so are those that the client abandons.
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
        tuning_s: float = SECONDS,
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
        self.renamed: str | None = None
        """The model name that answers carry instead of the one asked for, as when a provider replaces a model."""
        self.announced: dict[str, Announced] = {}
        """What the model lists say of models, by name; of others they say nothing in particular."""
        self.looks = 0
        """How often a model list was asked; that is free and stands in no ledger."""
        self.tuning = TuningApi(self._clock, seconds=tuning_s)
        """Files and fine-tuning jobs."""
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
        about = answer_about(request, self.announced)
        if about is not None:
            self.looks += 1
            return about
        call = Call(index=len(self.calls), status=200, fault=self._faults.draw(len(self.calls)))
        self.calls.append(call)
        if TuningApi.serves(request):
            return self._tune(call, request)
        path = request.path.partition("?")[0]
        dialect = next((each for pattern, each in _DIALECTS if pattern.fullmatch(path)), None)
        if dialect is None:
            return self._refuse(call, MessagesApi(), 404, f"{path} does not exist")
        call.api = dialect.name
        if request.method != "POST":
            return self._refuse(call, dialect, 405, "Method Not Allowed")
        try:
            asked = dialect.check(request, self._api_key)
        except Wrong as wrong:
            return self._refuse(call, dialect, wrong.status, str(wrong))
        call.model, call.input, call.images = asked.model, asked.input, asked.images
        if self.renamed is not None:
            asked = msgspec.structs.replace(asked, model=self.renamed)
        self._asked[canonical_json(asked.input)] += 1
        return self._hindered(call, dialect) or self._succeed(call, dialect, asked)

    def _hindered(self, call: Call, dialect: Dialect) -> Response | None:
        """The response where the rate limit or a fault keeps the request from being carried out."""
        waiting = self._waiting_s()
        if waiting > 0:
            return self._refuse(call, dialect, 429, "Too many requests.", after_s=math.ceil(waiting))
        if call.fault in _ERRORS:
            return self._fail(call, dialect, call.fault)
        if call.fault is Fault.bad_gateway:
            call.status = 502
            return Response(status=502, body=b"<html>Bad gateway</html>", headers={"content-type": "text/html"})
        return None

    def _tune(self, call: Call, request: Request) -> Response:
        """Files and jobs. A connection that breaks does so after the deed, as it may in life."""
        call.api = _TUNING
        hindered = self._hindered(call, _CHAT)
        if hindered is not None:
            return hindered
        try:
            body = self.tuning.answer(request, self._api_key)
        except Wrong as wrong:
            return self._refuse(call, _CHAT, wrong.status, str(wrong))
        return self._deliver(call, b'{"id":' if call.fault is Fault.garbled else body, self._limits(_CHAT))

    def _refuse(
        self,
        call: Call,
        dialect: Dialect,
        status: int,
        text: str,
        *,
        fault: Fault | None = None,
        after_s: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        call.status = status
        refused = dialect.refuse(status, text, call.index, fault, after_s)
        told = {**refused.headers, **self._limits(dialect), **(headers or {})}
        return Response(status=refused.status, body=refused.body, headers=told)

    def _fail(self, call: Call, dialect: Dialect, fault: Fault) -> Response:
        status, text = _ERRORS[fault]
        after_s = RETRY_AFTER_S if fault is Fault.rate_limited else None
        headers = {"x-should-retry": "false"} if fault is Fault.final_server_error else None
        return self._refuse(call, dialect, status, text, fault=fault, after_s=after_s, headers=headers)

    def _succeed(self, call: Call, dialect: Dialect, asked: Asked) -> Response:
        try:
            answer = self._answer(asked.input)
        except LookupError as error:
            return self._refuse(call, dialect, 400, f"the simulated model has no answer: {error}")
        reply = answer if isinstance(answer, Reply) else Reply(output=answer)
        said = self._say(call, dialect, asked, reply)
        call.usage, call.billed_nd = said.usage, said.cost_nd
        self._billed[canonical_json(call.input)] += 1
        body = b'{"type":"mess' if call.fault is Fault.garbled else dialect.answer(asked, call.index, said)
        tier = {TIER_HEADER: said.service_tier} if dialect.name == GeminiApi.name else {}
        return self._deliver(call, body, {**self._limits(dialect), **tier})

    def _say(self, call: Call, dialect: Dialect, asked: Asked, reply: Reply) -> Said:
        full, calls = spoken(asked, reply.output)
        if call.fault in _TEXTS:
            full, calls = _TEXTS[call.fault], ()
        counted, written_1h = dialect.countable(usage_of(asked, reply, full), reply.cache_write_1h_tokens)
        stop = _STOPS.get(call.fault, Stop.done) if call.fault else Stop.done
        text, cut = full, stop in (Stop.length, Stop.context)
        if cut or (reply.output_tokens or 0) > asked.max_tokens or len(full) > 4 * asked.max_tokens:
            text = full[: min(len(full) // 2, 4 * asked.max_tokens)]
            stop = stop if cut else Stop.length
        tier = reply.service_tier or dialect.tier(asked.service_tier)
        cost_nd = reply.cost_nd
        if cost_nd is None:
            cost_nd = self._cost_nd(counted, written_1h, tier)
        return Said(
            text=text,
            usage=counted,
            stop=stop,
            calls=() if stop is Stop.paused else calls,
            cache_write_1h=written_1h,
            service_tier=tier,
            cost_nd=cost_nd,
            logprob=reply.logprob,
        )

    def _cost_nd(self, usage: TokenUsage, written_1h: int, tier: str) -> int:
        if self._price is None:
            return 0
        return self._price.cost_nd(usage, cache_write_1h_tokens=written_1h, service_tier=tier)

    def _deliver(self, call: Call, body: bytes, headers: dict[str, str]) -> Response:
        ending = _ENDINGS.get(call.fault, Ending.complete) if call.fault else Ending.complete
        if ending in (Ending.never, Ending.silent):
            call.status = 0
        delay_s = self._latency(call.index) if callable(self._latency) else self._latency

        def abandoned() -> None:
            call.abandoned = True

        return Response(
            status=200,
            body=body,
            headers={**JSON_TYPE, **headers, "request-id": f"req_{call.index:024d}"},
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

    def _limits(self, dialect: Dialect) -> dict[str, str]:
        if self._bucket is None:
            return {}
        bucket = self._bucket
        return dialect.limits(
            Allowed(
                limit=int(bucket.capacity),
                remaining=max(0, int(bucket.level)),
                reset_s=(bucket.capacity - bucket.level) / bucket.rate,
                now_ns=self._clock.now_ns(),
            )
        )
