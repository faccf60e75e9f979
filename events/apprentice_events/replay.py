"""What an audit needs: verify a log's chain, rebuild states from it as of any point, and compare two states.

Works on an open log or on the path of a file that nobody has to have open for writing. Folds are objects of whoever
asks; nothing here knows what they compute.
"""

import sqlite3
import struct
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any, Protocol

import msgspec

from apprentice_events import chain, codec, sqlite_file
from apprentice_events.errors import LogCorrupt, UnknownEvent
from apprentice_events.log import Head, Record
from apprentice_events.sqlite import scan_file
from apprentice_events.vocabulary import Event


class Scannable(Protocol):
    """The part of a log that replay reads."""

    def scan(self) -> Iterator[Record]:
        """Every record, in order."""
        ...


type Source = Scannable | str | Path
type Link = tuple[int, bytes, int, bytes, int, int, bytes | None, bytes | None, bytes | None, bytes, bytes]
"""A record's fields with text still as UTF-8, as the chain hashes them."""


class Fold(Protocol):
    """Something that takes in the log record by record."""

    def apply(self, record: Record, event: Event) -> None:
        """Take in the next record; ``event`` is its decoded payload."""
        ...


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of :func:`verify`. ``records`` of them are good, ``head`` is the last good one."""

    ok: bool
    records: int
    head: Head
    first_bad_position: int | None = None
    reason: str = ""


class _Broken(Exception):
    """The record at the next position is missing or not what was written."""


def verify(source: Source, head: Head | None = None) -> Verdict:
    """Recompute the chain from the first record on, and name the first position at which it does not hold.

    Without ``head`` a log whose last records were cut off verifies: a shorter log is a log. A head that was noted
    earlier and kept elsewhere closes that gap, and shows a chain that was rewritten as a whole.
    """
    good = Head()
    versions: dict[bytes, int] = {}
    try:
        for row in _links(source):
            good = _follow(good, row, versions)
            if head is not None and head.position == good.position and head.digest != good.digest:
                return _bad(good.position, good, "the chain up to here is not the one whose head was noted")
    except (_Broken, sqlite3.Error, struct.error, TypeError, UnicodeError) as error:
        return _bad(good.position + 1, good, str(error))
    if head is not None and head.position > good.position:
        return _bad(good.position + 1, good, f"the log ends at {good.position}, the noted head is at {head.position}")
    return Verdict(ok=True, records=good.position, head=good)


def _bad(position: int, good: Head, reason: str) -> Verdict:
    return Verdict(ok=False, records=position - 1, head=good, first_bad_position=position, reason=reason)


def _follow(good: Head, row: Link, versions: dict[bytes, int]) -> Head:
    position, stream, version, tag, schema, time_ns, causation, correlation, key, payload, digest = row
    if position != good.position + 1:
        raise _Broken(f"no record at position {good.position + 1}; the next one is at {position}")
    if digest != chain.link(
        good.digest, position, stream, version, tag, schema, time_ns, causation, correlation, key, payload
    ):
        raise _Broken("the digest does not match the record and the digest before it")
    if version != versions.get(stream, 0) + 1:
        raise _Broken(f"version {version} of stream {stream!r} follows version {versions.get(stream, 0)}")
    versions[stream] = version
    return Head(position, digest)


def _links(source: Source) -> Iterator[Link]:
    if not isinstance(source, str | Path):
        for record in source.scan():
            yield _link(record)
        return
    connection = sqlite_file.connect_reader(Path(source))
    connection.text_factory = bytes  # what is hashed are bytes, and a damaged text need not be UTF-8
    try:
        query = f"SELECT {sqlite_file.COLUMNS} FROM records WHERE position > ? ORDER BY position LIMIT ?"
        after, count = -(2**63), sqlite_file.PAGE_ROWS
        while count == sqlite_file.PAGE_ROWS:
            count = 0
            for row in connection.execute(query, (after, sqlite_file.PAGE_ROWS)):
                after, count = row[0], count + 1
                yield row
    finally:
        connection.close()


def _link(record: Record) -> Link:
    def utf8(text: str | None) -> bytes | None:
        return None if text is None else text.encode()

    return (
        record.position,
        record.stream.encode(),
        record.version,
        record.tag.encode(),
        record.schema,
        record.time_ns,
        utf8(record.causation),
        utf8(record.correlation),
        utf8(record.key),
        record.payload,
        record.digest,
    )


def rebuild[F: Fold](
    source: Source, folds: Sequence[F], *, until_position: int | None = None, until_time_ns: int | None = None
) -> Sequence[F]:
    """Feed the log to ``folds`` and return them, as of a position or a time (both inclusive) where one is given.

    As of a time means up to the first record that is later: always a prefix of the log, also where a clock was set
    back. Raises :class:`LogCorrupt` or :class:`UnknownEvent` naming the position that cannot be decoded.
    """
    applies = [fold.apply for fold in folds]
    decode = codec.decode
    for record in scan_file(source) if isinstance(source, str | Path) else source.scan():
        if until_position is not None and record.position > until_position:
            break
        if until_time_ns is not None and record.time_ns > until_time_ns:
            break
        try:
            event = decode(record.tag, record.schema, record.payload)
        except LogCorrupt as error:
            raise LogCorrupt(record.position, error.reason) from error
        except UnknownEvent as error:
            raise UnknownEvent(f"position {record.position}: {error}") from error
        for apply in applies:
            apply(record, event)
    return folds


def diff(left: Any, right: Any) -> list[str]:
    """Where two states differ, one line a difference: ``path: left → right``. Equal states give an empty list.

    States are compared as msgspec builtins, so structs, dataclasses and plain containers all do.
    """
    return list(_differences("", msgspec.to_builtins(left, str_keys=True), msgspec.to_builtins(right, str_keys=True)))


_MISSING = object()


def _differences(path: str, left: Any, right: Any) -> Iterator[str]:
    if isinstance(left, dict) and isinstance(right, dict):
        for name in sorted(left.keys() | right.keys()):
            inner = f"{path}.{name}" if path else name
            yield from _differences(inner, left.get(name, _MISSING), right.get(name, _MISSING))
    elif isinstance(left, list | tuple) and isinstance(right, list | tuple):
        for index, (one, other) in enumerate(zip_longest(left, right, fillvalue=_MISSING)):
            yield from _differences(f"{path}[{index}]", one, other)
    elif left != right:
        yield f"{path or 'state'}: {_shown(left)} → {_shown(right)}"


def _shown(value: Any) -> str:
    return "nothing" if value is _MISSING else repr(value)
