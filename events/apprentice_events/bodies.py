"""Bodies: what people wrote and models answered, kept apart from the events so that it can be erased.

An event names a body by its digest. The digest covers a random salt as well as the content, because the bare hash of
a short input can be found by trying; once salt and content are gone the digest says nothing.
"""

from hashlib import sha256
from typing import Any

import msgspec

BODY_BYTES_MAX = 64 * 1024 * 1024
SALT_BYTES_MIN = 16

_encode_sorted = msgspec.json.Encoder(order="deterministic").encode


class Body(msgspec.Struct, frozen=True, gc=False):
    """Content and salt under their digest (lower-case hex)."""

    digest: str
    salt: bytes
    content: bytes


def make_body(content: bytes, salt: bytes) -> Body:
    """A body ready to be stored. ``salt`` is fresh random bytes, at least 16. Raises ``ValueError`` over the limits."""
    if len(salt) < SALT_BYTES_MIN:
        raise ValueError(f"a body's salt has {len(salt)} bytes; give at least {SALT_BYTES_MIN} random ones")
    if len(content) > BODY_BYTES_MAX:
        raise ValueError(f"a body of {len(content)} bytes is over the limit of {BODY_BYTES_MAX}; store a reference")
    return Body(body_digest(content, salt), salt, content)


def body_digest(content: bytes, salt: bytes) -> str:
    """SHA-256 over the salt's length (8 bytes, big-endian), the salt and the content, as hex."""
    return sha256(len(salt).to_bytes(8, "big") + salt + content).hexdigest()


def encode_json(value: Any) -> bytes:
    """Canonical JSON: UTF-8, keys sorted, no white space. Equal values of the same types give the same bytes.

    Raises ``ValueError`` for what JSON has no word for (NaN, infinity), ``TypeError`` for foreign objects.
    """
    encoded = _encode_sorted(value)
    if b"null" in encoded and _has_non_finite(value):  # the encoder writes NaN and infinity as null
        raise ValueError("NaN and infinity have no place in JSON; replace them before storing the object")
    return encoded


def _has_non_finite(value: Any) -> bool:
    if isinstance(value, float):
        return value - value != 0.0
    if isinstance(value, dict):
        return any(map(_has_non_finite, value.values()))
    if isinstance(value, list | tuple):
        return any(map(_has_non_finite, value))
    return False
