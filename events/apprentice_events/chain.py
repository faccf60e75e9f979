"""The hash chain: every record's digest covers the digest before it, its whole envelope and its payload.

``digest = SHA-256(previous digest || header || stream || tag || causation || correlation || key || payload)`` where
the header has a fixed width and holds the numbers (position, version, time, schema) and the byte length of each
field that follows. Lengths come before contents, so no two different records are hashed over the same bytes. An
absent optional field has the length ``0xFFFFFFFF``, which tells it from an empty one.

Changing one stored byte breaks the digest of its record; repairing that breaks the next one, up to the head.
"""

from hashlib import sha256
from struct import Struct

GENESIS = bytes(32)
"""The digest before the first record."""

ABSENT = 0xFFFFFFFF

# position, version, time_ns, schema, then the lengths of stream, tag, causation, correlation, key, payload
_pack_header = Struct(">QQqIIIIIII").pack


def link(
    previous: bytes,
    position: int,
    stream: bytes,
    version: int,
    tag: bytes,
    schema: int,
    time_ns: int,
    causation: bytes | None,
    correlation: bytes | None,
    key: bytes | None,
    payload: bytes,
) -> bytes:
    """The 32-byte digest of a record after ``previous``; text comes as UTF-8. Raises ``struct.error`` out of range."""
    header = _pack_header(
        position,
        version,
        time_ns,
        schema,
        len(stream),
        len(tag),
        ABSENT if causation is None else len(causation),
        ABSENT if correlation is None else len(correlation),
        ABSENT if key is None else len(key),
        len(payload),
    )
    parts = (previous, header, stream, tag, causation or b"", correlation or b"", key or b"", payload)
    return sha256(b"".join(parts)).digest()
