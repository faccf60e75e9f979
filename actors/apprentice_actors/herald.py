"""Alerts on their way to people. What a sink does with them, or fails to do, never touches a request."""

import logging
from collections.abc import Sequence

import msgspec

from apprentice_events import vocabulary as v

from .actor import Actor, ActorRef
from .ports import AlertSink

logger = logging.getLogger(__name__)


class Announce(msgspec.Struct, frozen=True, kw_only=True):
    """Tell: an alert began or ended. ``task`` None: it concerns all of them."""

    task: str | None
    event: v.AlertRaised | v.AlertCleared


class Herald(Actor[Announce]):
    """Turn-taking on the alert channel: one alert after the other, in order, to every sink."""

    def __init__(self, ref: ActorRef[Announce], *, sinks: Sequence[AlertSink]) -> None:
        super().__init__(ref)
        self._sinks = sinks

    async def receive(self, batch: list[Announce]) -> None:
        """Deliver in order; a failing sink is logged and passed over."""
        for message in batch:
            for sink in self._sinks:
                try:
                    await self._deliver(sink, message)
                except Exception:
                    logger.exception("the alert sink %s failed on %s", type(sink).__name__, message.event.alert)

    @staticmethod
    async def _deliver(sink: AlertSink, message: Announce) -> None:
        event = message.event
        if isinstance(event, v.AlertRaised):
            await sink.raised(message.task, event.alert, event.severity, event.message)
        else:
            await sink.cleared(message.task, event.alert)


def announce(herald: ActorRef[Announce] | None, task: str | None, event: v.Event) -> None:
    """Pass an alert event on, and only those. A full herald loses it for the sinks, never for the log."""
    if herald is not None and isinstance(event, v.AlertRaised | v.AlertCleared):
        herald.tell(Announce(task=task, event=event))
