"""Idempotency across restarts: what the log knows of a key."""

import msgspec

from apprentice_events import vocabulary as v
from apprentice_events.errors import ErasedBody
from apprentice_events.log import EventLog

from .live import Live
from .ports import JsonObject


class KeyKnown(msgspec.Struct, frozen=True, kw_only=True):
    """The log was asked about a live request's key. With ``output`` None and nothing else set, the request is new."""

    live: Live
    live_id: str
    live_input: str
    request: str | None = None
    output: JsonObject | None = None
    conflict: bool = False
    erased: bool = False


async def look_up(log: EventLog, stream: str, live: Live) -> KeyKnown:
    """Find the last request under the key: its answer, a conflict with another input, or nothing that counts.

    A request that failed, or that a crash cut off, does not count: the same key is then a new, recorded attempt.
    """
    known = KeyKnown(live=live, live_id=live.request.id, live_input=live.request.input)
    assert live.request.key is not None
    record = await log.find_key(stream, live.request.key)
    if record is None:
        return known
    received = record.event()
    assert isinstance(received, v.RequestReceived)
    served = [
        event
        for event in [one.event() for one in await log.by_correlation(received.request)]
        if isinstance(event, v.ResponseServed)
    ]
    try:
        if await log.get_body(received.input) != live.content:
            return msgspec.structs.replace(known, conflict=True)
        if not served:
            return known
        output = msgspec.json.decode(await log.get_body(served[0].output))
    except ErasedBody:
        return msgspec.structs.replace(known, erased=True)
    return msgspec.structs.replace(known, request=received.request, output=output)
