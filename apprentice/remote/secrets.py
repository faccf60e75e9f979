"""API keys that cannot leak by accident: a type that never prints, and the removal of known keys from any text."""

import json
import logging
import os
import re
from pathlib import Path
from typing import Any, NoReturn, Self
from urllib.parse import quote, unquote
from weakref import WeakSet

from apprentice.errors import InvalidConfig

MASK = "[secret]"
MIN_LENGTH = 8
"""Shorter values are refused: they could not be removed from texts without destroying ordinary words."""
TELLING_LENGTH = 16
"""From here on a secret cannot be taken for a word of an answer."""

_PRINTABLE = re.compile(r"[\x21-\x7e]+")


class Secret:
    """A value that only :meth:`reveal` gives away; printing, formatting, serialising and pickling do not.

    ``origin`` says where it came from (``the environment variable X``), for error messages.
    """

    __slots__ = ("__weakref__", "_spellings", "_value", "origin")

    def __init__(self, value: str, origin: str = "the caller") -> None:
        if len(value) < MIN_LENGTH or not _PRINTABLE.fullmatch(value):
            raise InvalidConfig(
                [
                    f"the secret is {len(value)} characters long or has blanks or control characters in it; "
                    f"give at least {MIN_LENGTH} visible ASCII characters, without quotes or line breaks"
                ],
                origin,
            )
        self._value = value
        self._spellings = _written(value)
        self.origin = origin
        _known.add(self)

    @classmethod
    def from_env(cls, name: str) -> Self:
        """Read an environment variable. Raises :class:`InvalidConfig` if it is not set or empty."""
        if not name.isidentifier() or _looks_like_a_key(name):
            problem = "is none, or looks like a key; write the name of the variable there that holds the key"
            raise InvalidConfig([problem], "the name of the environment variable")
        origin = f"the environment variable {name}"
        value = os.environ.get(name, "").strip()
        if not value:
            raise InvalidConfig([f"it is not set; run `export {name}=…` or name another variable"], origin)
        return cls(value, origin)

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Read a file that holds nothing but the secret. Raises :class:`InvalidConfig` if that fails."""
        if _looks_like_a_key(path.name) and not path.exists():
            problem = "looks like a key itself; write the path of a file there, and keep the key in it"
            raise InvalidConfig([problem], "the path of the secret file")
        origin = f"the secret file {path}"
        try:
            value = path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            raise InvalidConfig([f"cannot be read ({reason}); check the path and its permissions"], origin) from None
        if not value:
            raise InvalidConfig(["is empty; write the key into it, on one line"], origin)
        return cls(value, origin)

    def reveal(self) -> str:
        """The value itself, for the one place that sends it."""
        return self._value

    def __repr__(self) -> str:
        return f"Secret({MASK})"

    def __str__(self) -> str:
        return MASK

    def __format__(self, spec: str) -> str:
        return format(MASK, spec)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError("a Secret cannot be pickled or copied into a file; pass the name of its source instead")


def _looks_like_a_key(name: str) -> bool:
    """Whether somebody may have put a key where its name belongs: long, and neither a variable's name nor a file's."""
    mixed = any(character.isdigit() for character in name) and any(character.islower() for character in name)
    return len(name) >= TELLING_LENGTH and (name.startswith(("sk-", "sk_")) or (mixed and "." not in name))


_known: "WeakSet[Secret]" = WeakSet()


def redact(text: str) -> str:
    """``text`` with every living secret replaced by ``[secret]``; the longest first, so that no tail stays behind."""
    for spelling in _spellings(MIN_LENGTH):
        text = text.replace(spelling, MASK)
    return text


def redact_bytes(content: bytes) -> bytes:
    """As :func:`redact`, for what has not been read yet: text that is shortened later could end in half a secret."""
    for spelling in _spellings(MIN_LENGTH):
        content = content.replace(spelling.encode(), MASK.encode())
    return content


def redact_object[T](value: T) -> T:
    """``value`` with secrets removed from all its strings, keys of objects included.

    Only secrets of at least ``TELLING_LENGTH`` characters: a shorter one, such as the "lm-studio" that a local server
    takes for a key, is no more than a word, and words of an answer stay.
    """
    spellings = list(_spellings(TELLING_LENGTH))
    cleaned: T = _cleaned(value, spellings) if spellings else value
    return cleaned


def _cleaned(value: Any, spellings: list[str]) -> Any:
    if isinstance(value, str):
        for spelling in spellings:
            value = value.replace(spelling, MASK)
        return value
    if isinstance(value, dict):
        return {_cleaned(key, spellings): _cleaned(item, spellings) for key, item in value.items()}
    if isinstance(value, list):
        return [_cleaned(item, spellings) for item in value]
    return value


def _spellings(length_min: int) -> list[str]:
    """Every living secret in each way that it may be written; longest first."""
    found: set[str] = set()
    for secret in tuple(_known):
        if len(secret.reveal()) >= length_min:
            found |= secret._spellings
    return sorted(found, key=len, reverse=True)


def _written(value: str) -> frozenset[str]:
    """``value`` as it is, as it stands in a URL, and in JSON (also in JSON within JSON)."""
    once = json.dumps(value)[1:-1]
    return frozenset({value, quote(value, safe=""), quote(value), once, json.dumps(once)[1:-1], repr(value)[1:-1]})


def detached(url: str) -> tuple[str, tuple[str, str] | None]:
    """A URL without the name and password in it, and these, decoded. What is left may be shown and logged."""
    scheme, slashes, rest = url.partition("://")
    end = min((at for at in (rest.find(mark) for mark in "/?#") if at >= 0), default=len(rest))
    login, found, host = rest[:end].rpartition("@")
    if not found:
        return url, None
    name, _, password = login.partition(":")
    return f"{scheme}{slashes}{host}{rest[end:]}", (unquote(name), unquote(password))


class SecretFilter(logging.Filter):
    """Takes secrets out of log records on their way."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Lets every record pass, cleaned."""
        text = record.getMessage()
        clean = redact(text)
        if clean != text:
            record.msg, record.args = clean, ()
        return True


def _guard_http_logs() -> None:
    """The HTTP client logs addresses and what providers send back, below the level that this program decides on."""
    for name in ("httpx", "httpcore.connection", "httpcore.http11", "httpcore.http2", "httpcore.proxy"):
        logger = logging.getLogger(name)
        if not any(isinstance(each, SecretFilter) for each in logger.filters):
            logger.addFilter(SecretFilter())


_guard_http_logs()
