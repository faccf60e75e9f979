"""Which requests are held out: a fixed share by the hash of the normalised input, so that no paraphrase by case or
spacing can stand on both sides. Pure."""

from hashlib import sha256
from typing import Any

import msgspec

_encode = msgspec.json.Encoder(order="deterministic").encode


def normalised(value: Any) -> Any:
    """``value`` with strings case-folded and their white space collapsed, throughout."""
    if isinstance(value, str):
        return " ".join(value.split()).casefold()
    if isinstance(value, dict):
        return {key: normalised(item) for key, item in value.items()}
    if isinstance(value, list):
        return [normalised(item) for item in value]
    return value


def input_hash(value: Any) -> bytes:
    """SHA-256 of the canonical JSON of the normalised input."""
    return sha256(_encode(normalised(value))).digest()


def held_out(value: Any, share: float) -> bool:
    """Whether an input belongs to the held-out ``share`` of all inputs."""
    return int.from_bytes(input_hash(value)[:8], "big") < share * 2**64
