"""The remote side: paid calls run beside each other; what they show of the provider's health is kept here."""

import logging

import msgspec

from .actor import Actor, ActorRef, Reply
from .policy.breaker import Breaker, BreakerState
from .ports import Clock, Question, RemoteAnswer, RemoteFailure, RemoteModel

logger = logging.getLogger(__name__)

OUTAGES = frozenset({"rate_limited", "unavailable", "timeout", "interrupted", "auth", "spend_limit"})
"""Failures that say that the provider cannot be used now."""


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """Ask: make one paid call, to be over at the monotonic time ``deadline``."""

    question: Question
    deadline: float
    reply: Reply[RemoteAnswer]


class RemoteHealth(msgspec.Struct, frozen=True, kw_only=True):
    """What the last calls showed."""

    calls: int
    failures_in_a_row: int
    circuit: BreakerState
    last_error: str | None


class ReadHealth(msgspec.Struct, frozen=True, kw_only=True):
    """Ask: the provider's health."""

    reply: Reply[RemoteHealth]


type RemoteMessage = Call | ReadHealth


class RemoteDesk(Actor[RemoteMessage]):
    """One provider. The model itself holds calls back where the provider's limits ask for it, within their deadline."""

    def __init__(self, ref: ActorRef[RemoteMessage], *, model: RemoteModel, clock: Clock, breaker: Breaker) -> None:
        super().__init__(ref)
        self._model = model
        self._clock = clock
        self._breaker = breaker
        self._calls = 0
        self._last_error: str | None = None

    async def receive(self, batch: list[RemoteMessage]) -> None:
        """Start the calls; they answer for themselves."""
        for message in batch:
            if isinstance(message, Call):
                self.spawn(self._call(message))
            else:
                message.reply.set(
                    RemoteHealth(
                        calls=self._calls,
                        failures_in_a_row=self._breaker.failures_in_a_row,
                        circuit=self._breaker.state,
                        last_error=self._last_error,
                    )
                )

    async def _call(self, call: Call) -> None:
        remaining = max(call.deadline - self._clock.monotonic(), 0.0)
        self._calls += 1
        self._breaker.sent(self._clock.monotonic())
        try:
            answer = await self._model.answer(call.question, timeout_s=remaining)
        except RemoteFailure as failure:
            self._failed(call, failure)
        except Exception as error:  # a defect in an adapter must not cost the other calls their answers
            logger.exception("the adapter of %s failed", self._model.provider)
            worst = self._model.quote_nd(call.question)
            self._failed(call, RemoteFailure("unavailable", f"the adapter failed: {error!r}", cost_nd=worst))
        else:
            self._breaker.succeeded()
            call.reply.set(answer)

    def _failed(self, call: Call, failure: RemoteFailure) -> None:
        if failure.kind in OUTAGES:
            self._breaker.failed(self._clock.monotonic())
        else:  # it answered, if not with an answer
            self._breaker.succeeded()
        self._last_error = failure.message
        call.reply.fail(failure)
