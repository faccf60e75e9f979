"""Adds what is missing to the golden log: one record of every event at its current schema version.

``python tests/golden/make_golden.py`` appends records for new tags and raised schema versions and leaves the others
alone: what a released version wrote must be readable forever. ``--anew`` writes the file from nothing; that is for the
time before a first release only.
"""

import hashlib
import sys
from pathlib import Path
from typing import Any

import msgspec

from apprentice_events import codec
from apprentice_events.log import Draft, Head, Record, seal
from apprentice_events.vocabulary import EVENTS, Event

GOLDEN = Path(__file__).with_name("events_v1.jsonl")


class Line(msgspec.Struct):
    """A record as one line of JSON: the digest as hex, the payload as it is, byte for byte."""

    position: int
    stream: str
    version: int
    tag: str
    schema: int
    time_ns: int
    causation: str | None
    correlation: str | None
    key: str | None
    payload: msgspec.Raw
    digest: str

    def record(self) -> Record:
        """The record that the line stands for."""
        fields = {name: getattr(self, name) for name in self.__struct_fields__}
        return Record(**fields | {"payload": bytes(self.payload), "digest": bytes.fromhex(self.digest)})


def read() -> list[Record]:
    """The golden log."""
    return [msgspec.json.decode(line, type=Line).record() for line in GOLDEN.read_bytes().splitlines()]


def missing(records: list[Record]) -> list[type[Event]]:
    """Events that have no record at their current schema version."""
    there = {(record.tag, record.schema) for record in records}
    return [event for tag, event in EVENTS.items() if (tag, event.SCHEMA) not in there]


def sample(event: type[Event]) -> Event:
    """An event with every field set, none to its default."""
    info = msgspec.inspect.type_info(event)
    assert isinstance(info, msgspec.inspect.StructType)
    return msgspec.convert(_fields(info), event)


def _fields(info: msgspec.inspect.StructType) -> dict[str, Any]:
    return {field.encode_name: _value(field.name, field.type, field.default) for field in info.fields}


def _value(name: str, kind: msgspec.inspect.Type, default: Any) -> Any:
    match kind:
        case msgspec.inspect.UnionType():
            return _value(name, next(one for one in kind.types if not isinstance(one, msgspec.inspect.NoneType)), None)
        case msgspec.inspect.LiteralType():
            return next(value for value in reversed(kind.values) if value != default)
        case msgspec.inspect.StructType():
            return _fields(kind)
        case msgspec.inspect.VarTupleType():
            return [_value(name, kind.item_type, None), _value(f"{name} é", kind.item_type, None)]
        case msgspec.inspect.DictType():
            return {f"{name} é": _value(name, kind.value_type, None)}
        case msgspec.inspect.BoolType():
            return default is not True
        case msgspec.inspect.IntType():
            return 1_000_000_007
        case msgspec.inspect.FloatType():
            return 0.3
        case msgspec.inspect.StrType() if name in ("input", "output", "body", "comment", "digest"):
            return hashlib.sha256(name.encode()).hexdigest()
        case msgspec.inspect.StrType():
            return f'{name} "1"'
    raise TypeError(f"no sample for the field {name!r} of type {kind}; add a case here")


def extend(records: list[Record]) -> list[Record]:
    """The records that follow ``records``: one for each event that is missing."""
    added: list[Record] = []
    for event in missing(records):
        last = (records + added)[-1] if records or added else None
        head = Head(last.position, last.digest) if last else Head()
        number = head.position + 1
        stream = ("task", "treasury")[number % 2]
        version = sum(record.stream == stream for record in records + added)
        added += [Record(*row) for row in seal(head, stream, version, [_draft(event, number)], number * 10**9)]
    return added


def _draft(event: type[Event], number: int) -> Draft:
    correlation = f"request-{number}" if number % 3 else None
    causation = str(number - 1) if number % 5 else None
    key = f"clé-{number}" if number % 7 == 0 else None
    utf8 = [None if text is None else text.encode() for text in (causation, correlation, key)]
    payload = codec.encode(sample(event))
    return event.TAG, event.TAG.encode(), event.SCHEMA, causation, utf8[0], correlation, utf8[1], key, utf8[2], payload


def main() -> None:
    records = [] if "--anew" in sys.argv or not GOLDEN.exists() else read()
    added = extend(records)
    with GOLDEN.open("ab" if records else "wb") as file:
        for record in added:
            fields = msgspec.structs.asdict(record)
            fields |= {"payload": msgspec.Raw(record.payload), "digest": record.digest.hex()}
            file.write(msgspec.json.encode(Line(**fields)) + b"\n")
    sys.stdout.write(f"{len(added)} records added to {GOLDEN.name}\n")


if __name__ == "__main__":
    main()
