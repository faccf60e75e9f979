"""Asking a model over HTTP: deadlines, retries, rate limits and money, the same for every wire format.

A call is tried again only while it is certain that nothing was billed: the connection never stood, or an error response
came back. Once the request is under way without a response, what it cost is unknown; it is charged at the highest
possible price and reported, never repeated silently.

The HTTP wait itself is bounded by the event loop's time (virtual under the virtual-time loop); pauses between attempts
go through the Clock port.
"""

import asyncio
import logging
import traceback
from typing import Any

import httpx
import msgspec

from apprentice.remote.clients import ClientPool
from apprentice.remote.deliveries import Deliveries
from apprentice.remote.images import take_images
from apprentice.remote.limits import REQUESTS, LimitReached, RateLimiter
from apprentice.remote.outputs import output_of
from apprentice.remote.pricing import Price
from apprentice.remote.prompt import NotAnObject
from apprentice.remote.quoted import QuotedBodies
from apprentice.remote.retry import Backoff, may_retry, retry_after_s
from apprentice.remote.secrets import detached, redact, redact_bytes, redact_object
from apprentice.remote.wire import Completion, Malformed, WireFormat
from apprentice_actors.ports import Clock, Question, Randomness, RemoteAnswer, RemoteFailure, RemoteFailureKind

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 10.0
UNSEEN_TOKENS = 500
"""Allowance, in a quote, for what a provider adds to the prompt by itself (instructions for structured output)."""
_BYTES_PER_TOKEN = 4
"""A typical ratio, for planning within token limits; quotes count every byte as a token."""
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)


class _Failed(msgspec.Struct, frozen=True):
    """An attempt that cost nothing; ``retry`` says whether another one makes sense."""

    failure: RemoteFailure
    retry: bool
    after_s: float | None = None


class _Progress:
    """Follows httpcore's trace events, to know whether the request has left."""

    def __init__(self) -> None:
        self._traced = False
        self._sending = False

    async def trace(self, event: str, info: dict[str, Any]) -> None:
        self._traced = True
        if event.partition(".")[2].startswith("send_request_headers"):
            self._sending = True

    @property
    def perhaps_sent(self) -> bool:
        """A transport that tells nothing is taken to have sent."""
        return self._sending or not self._traced


class HttpModel:
    """A :class:`~apprentice_actors.ports.RemoteModel` over a :class:`~apprentice.remote.wire.WireFormat`.

    ``client`` stays the caller's to close if given; otherwise clients are made here and closed by :meth:`aclose`.
    """

    def __init__(
        self,
        wire: WireFormat,
        *,
        model: str,
        price: Price,
        base_url: str,
        max_attempts: int,
        limiter: RateLimiter,
        clock: Clock,
        randomness: Randomness,
        client: httpx.AsyncClient | None = None,
        backoff: Backoff | None = None,
    ) -> None:
        if max_attempts < 1:
            raise ValueError(f"max_attempts of {model} is {max_attempts}; it must be at least 1, which means no retry")
        self._wire = wire
        self._bodies = QuotedBodies(wire.encode)
        self._model = model
        self._price = price
        bare_url, self._login = detached(base_url)
        self._url = bare_url.rstrip("/") + wire.path
        self._target = _parsed(self._url)
        self._auth = httpx.BasicAuth(*self._login) if self._login is not None else httpx.USE_CLIENT_DEFAULT
        self._max_attempts = max_attempts
        self._limiter = limiter
        self._deliveries = Deliveries()
        self._clock = clock
        self._randomness = randomness
        self._backoff = backoff or Backoff()
        self._clients = ClientPool(client)

    @property
    def provider(self) -> str:
        """The provider's name."""
        return self._wire.provider

    @property
    def model(self) -> str:
        """The model name that is asked for."""
        return self._model

    @property
    def price(self) -> Price:
        """What the model's tokens cost."""
        return self._price

    def quote_nd(self, question: Question) -> int:
        """The highest possible price: each byte of the body a token at the dearest input rate, and all the output."""
        return self._ceiling_nd(self._bodies.for_quote(question), question)

    async def answer(self, question: Question, *, timeout_s: float) -> RemoteAnswer:
        """Ask once, trying again what was certainly not billed. Raises :class:`RemoteFailure`."""
        deadline = self._clock.monotonic() + timeout_s
        body = self._bodies.for_call(question)
        if timeout_s <= 0:
            raise self._unavailable("the deadline had passed before it was asked")
        ceiling_nd = self._ceiling_nd(body, question)
        try:
            return await self._answered(question, body, ceiling_nd, deadline)
        except RemoteFailure:
            raise
        except Exception as error:
            # A defect, here or in the wire format. What it says may hold the key, so it is told in our own words.
            logger.error("asking %s failed:\n%s", self._name, redact("".join(traceback.format_exception(error))))
            reason = f"the adapter failed with {type(error).__name__}"
            raise self._perhaps_billed("interrupted", reason, ceiling_nd) from None

    async def _answered(self, question: Question, body: bytes, ceiling_nd: int, deadline: float) -> RemoteAnswer:
        started = self._clock.monotonic()
        attempt = 0
        while True:
            attempt += 1
            outcome = await self._attempt(body, ceiling_nd, deadline)
            if isinstance(outcome, Completion):
                latency_ms = (self._clock.monotonic() - started) * 1000
                return self._accept(question, outcome, latency_ms, attempt)
            await self._pause(outcome, attempt, deadline)

    async def aclose(self) -> None:
        """Close the connections that this model opened."""
        await self._clients.aclose()

    def _ceiling_nd(self, body: bytes, question: Question) -> int:
        images = len(take_images(question.input, question.image_fields)[1]) if question.image_fields else 0
        seen = len(body) + UNSEEN_TOKENS + images * self._wire.image_tokens
        return self._price.bound_nd(seen, question.max_output_tokens)

    async def _attempt(self, body: bytes, ceiling_nd: int, deadline: float) -> Completion | _Failed:
        tokens = len(body) / _BYTES_PER_TOKEN
        amounts = {REQUESTS: 1.0, "tokens": tokens, "input_tokens": tokens, "output_tokens": 1.0}
        try:
            async with self._limiter.turn(deadline, amounts):
                response = await self._send(body, ceiling_nd, deadline)
                if isinstance(response, _Failed):
                    return response
                outcome = self._read(response, ceiling_nd)
                if isinstance(outcome, Completion) and outcome.id:
                    await self._check_delivery(body, response, ceiling_nd)
                return outcome
        except LimitReached as error:
            raise RemoteFailure("rate_limited", f"{self._name}: {error}") from None

    async def _send(self, body: bytes, ceiling_nd: int, deadline: float) -> httpx.Response | _Failed:
        progress = _Progress()
        remaining = deadline - self._clock.monotonic()
        timeout = httpx.Timeout(None, connect=max(0.001, min(CONNECT_TIMEOUT_S, remaining)))
        try:
            with self._clients.lend() as client:
                async with asyncio.timeout(max(0.0, remaining)):
                    return await client.post(
                        self._target,
                        content=body,
                        headers=self._wire.headers(),
                        auth=self._auth,
                        timeout=timeout,
                        extensions={"trace": progress.trace},
                    )
        except TimeoutError:
            if not progress.perhaps_sent:
                return _Failed(self._unavailable("no connection stood before the deadline"), retry=False)
            raise self._perhaps_billed("timeout", "no complete response came before the deadline", ceiling_nd) from None
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            wrong = f"{self._url!r} is not a web address ({redact(str(error))})"
            message = f"{self._name}: {wrong}; correct the base URL in the config"
            raise RemoteFailure("bad_request", message) from None
        except _NOT_SENT as error:
            return _Failed(self._unavailable(_describe(error)), retry=True)
        except httpx.TransportError as error:
            if not progress.perhaps_sent:
                return _Failed(self._unavailable(_describe(error)), retry=True)
            raise self._perhaps_billed("interrupted", _describe(error), ceiling_nd) from None
        except httpx.DecodingError as error:
            raise self._perhaps_billed("interrupted", _describe(error), ceiling_nd) from None

    async def _check_delivery(self, body: bytes, response: httpx.Response, ceiling_nd: int) -> None:
        """Refuse the response of another request, and drop the connection that is one response behind."""
        delivery = self._deliveries.note(body, response.content)
        stream = response.extensions.get("network_stream")
        if delivery != "new" and stream is not None:
            await stream.aclose()
        if delivery == "stray":
            raise self._perhaps_billed("interrupted", "the response of an earlier request came again", ceiling_nd)

    def _read(self, response: httpx.Response, ceiling_nd: int) -> Completion | _Failed:
        now_ns = self._clock.now_ns()
        self._limiter.learn(self._wire.allowances(response.headers, now_ns))
        if response.status_code == 200:
            try:
                return self._wire.decode(response.content, response.headers)
            except Malformed as error:
                raise RemoteFailure("invalid", f"{self._name}: {redact(str(error))}", cost_nd=ceiling_nd) from None
        rejection = self._wire.reject(response.status_code, redact_bytes(response.content))
        after_s = retry_after_s(response.headers, now_ns)
        after_s = rejection.after_s if after_s is None else after_s
        may = may_retry(response.status_code, response.headers, rejection.retry)
        retry = may and rejection.kind not in ("spend_limit", "refusal")
        if retry and rejection.kind == "rate_limited" and after_s is not None:
            self._limiter.pause(after_s)
        message = f"{self._name} answered with status {response.status_code}: {redact(rejection.message)}"
        return _Failed(RemoteFailure(rejection.kind, message), retry, after_s)

    def _accept(self, question: Question, completion: Completion, latency_ms: float, attempts: int) -> RemoteAnswer:
        usage = completion.usage
        cost_nd = completion.cost_nd
        if cost_nd is None:
            written_1h, tier = completion.cache_write_1h_tokens, completion.service_tier
            cost_nd = self._price.cost_nd(usage, cache_write_1h_tokens=written_1h, service_tier=tier)
        if completion.failed is not None:
            kind, reason = completion.failed
            raise RemoteFailure(kind, f"{self._name}: {redact(reason)}", cost_nd=cost_nd, usage=usage)
        try:
            output = output_of(question, completion)
        except NotAnObject as error:
            raise RemoteFailure("invalid", f"{self._name}: {error}", cost_nd=cost_nd, usage=usage) from None
        return RemoteAnswer(
            output=redact_object(output),
            model=redact_object(completion.model),
            usage=usage,
            cost_nd=cost_nd,
            latency_ms=latency_ms,
            attempts=attempts,
        )

    async def _pause(self, failed: _Failed, attempt: int, deadline: float) -> None:
        """Wait for the next attempt, or raise the failure if there is to be none."""
        if not failed.retry or attempt >= self._max_attempts:
            raise failed.failure
        pause_s = self._backoff.pause_s(attempt, self._randomness.random(), failed.after_s)
        if self._clock.monotonic() + pause_s >= deadline:
            failed.failure.add_note(f"the next attempt would have come in {pause_s:.1f} s, after the deadline")
            raise failed.failure
        await self._clock.sleep(pause_s)

    @property
    def _name(self) -> str:
        return f"{self.provider}/{self._model}"

    def _unavailable(self, reason: str) -> RemoteFailure:
        message = f"{self._name} cannot be reached at {self._url}: {redact(reason)}; check the network and the base URL"
        return RemoteFailure("unavailable", message)

    def _perhaps_billed(self, kind: RemoteFailureKind, reason: str, ceiling_nd: int) -> RemoteFailure:
        message = f"{self._name}: {redact(reason)} after the request was sent; charged at the highest possible price"
        return RemoteFailure(kind, message, cost_nd=ceiling_nd)


def _parsed(url: str) -> httpx.URL | str:
    """Parsed once for all calls; what cannot be parsed is left for the call to fail on, with the answer's own words."""
    try:
        return httpx.URL(url)
    except httpx.InvalidURL:
        return url


def _describe(error: Exception) -> str:
    return str(error) or type(error).__name__
