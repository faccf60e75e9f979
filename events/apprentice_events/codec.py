"""Bytes to events and back. What an older version wrote is brought up to date before it is decoded.

An upcaster takes the raw record of one schema version and returns that of the next; they are applied one after the
other until the current version is reached. A new field with a default needs none.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from apprentice_events.errors import LogCorrupt, UnknownEvent
from apprentice_events.vocabulary import EVENTS, Event

type Raw = dict[str, Any]
type Upcaster = Callable[[Raw], Raw]

UPCASTERS: dict[tuple[str, int], Upcaster] = {}
"""``(tag, schema)`` to the function that turns a raw record of that schema version into the next one's."""

_encode = msgspec.json.Encoder().encode
_decoders: dict[str, Callable[[bytes], Event]] = {}


def upcaster(tag: str, schema: int) -> Callable[[Upcaster], Upcaster]:
    """Register the decorated function for records of ``tag`` written under ``schema``."""

    def register(function: Upcaster) -> Upcaster:
        assert (tag, schema) not in UPCASTERS, f"{tag!r} schema {schema} has an upcaster already"
        UPCASTERS[tag, schema] = function
        return function

    return register


def encode(event: Event) -> bytes:
    """An event as UTF-8 JSON without its tag; fields at their default are left out.

    Decodes what it made before it lets go of it: a record that no one can read would block every later replay.
    Raises ``ValueError`` for an event whose values are not of the declared types (NaN included) or not registered.
    """
    tag = event.TAG
    if EVENTS.get(tag) is not type(event):
        raise ValueError(f"{type(event).__name__} is not in the vocabulary; decorate it with @recorded there")
    payload = _encode(event)
    try:
        (_decoders.get(tag) or _build(tag))(payload)
    except msgspec.DecodeError as error:
        raise ValueError(f"{type(event).__name__} cannot be logged, it would not decode again: {error}") from error
    return payload


def decode(tag: str, schema: int, payload: bytes) -> Event:
    """The event that ``payload`` holds.

    Raises :class:`UnknownEvent` for a tag or a schema version that is not known, :class:`LogCorrupt` for bytes that
    are not such an event.
    """
    decoder = _decoders.get(tag) or _build(tag)
    try:
        if schema != EVENTS[tag].SCHEMA:
            payload = _upcast(tag, schema, payload)
        return decoder(payload)
    except msgspec.DecodeError as error:
        raise LogCorrupt(None, f"the payload of a {tag!r} record (schema {schema}) does not decode: {error}") from error


def _build(tag: str) -> Callable[[bytes], Event]:
    event = EVENTS.get(tag)
    if event is None:
        raise UnknownEvent(
            f"no event has the tag {tag!r}: the log was written by a newer version, or a tag was removed from the "
            f"vocabulary. Read it with the version that wrote it, or a newer one."
        )
    _decoders[tag] = msgspec.json.Decoder(event).decode
    return _decoders[tag]


def _upcast(tag: str, schema: int, payload: bytes) -> bytes:
    current = EVENTS[tag].SCHEMA
    if schema > current:
        raise UnknownEvent(
            f"a {tag!r} record has schema {schema}, this version knows {current}: the log was written by a newer "
            f"version. Upgrade before reading it."
        )
    raw: Raw = msgspec.json.decode(payload, type=dict)
    for step in range(schema, current):
        if (tag, step) not in UPCASTERS:
            raise UnknownEvent(
                f"a {tag!r} record has schema {schema}, and no upcaster leads from {step} to {step + 1}. "
                f"Register one in apprentice_events.codec."
            )
        raw = UPCASTERS[tag, step](raw)
    return msgspec.json.encode(raw)
