"""API keys that cannot leak by accident: a type that never prints, and the removal of known keys from any text."""

import os
import re
from pathlib import Path
from typing import Any, NoReturn, Self
from weakref import WeakSet

from apprentice.errors import InvalidConfig

MASK = "[secret]"
MIN_LENGTH = 8
"""Shorter values are refused: they could not be removed from texts without destroying ordinary words."""

_PRINTABLE = re.compile(r"[\x21-\x7e]+")


class Secret:
    """A value that only :meth:`reveal` gives away; printing, formatting, serialising and pickling do not.

    ``origin`` says where it came from (``the environment variable X``), for error messages.
    """

    __slots__ = ("__weakref__", "_value", "origin")

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
        self.origin = origin
        _known.add(self)

    @classmethod
    def from_env(cls, name: str) -> Self:
        """Read an environment variable. Raises :class:`InvalidConfig` if it is not set or empty."""
        origin = f"the environment variable {name}"
        value = os.environ.get(name, "").strip()
        if not value:
            raise InvalidConfig([f"it is not set; run `export {name}=…` or name another variable"], origin)
        return cls(value, origin)

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Read a file that holds nothing but the secret. Raises :class:`InvalidConfig` if that fails."""
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


_known: "WeakSet[Secret]" = WeakSet()


def redact(text: str) -> str:
    """``text`` with every living secret replaced by ``[secret]``; the longest first, so that no tail stays behind."""
    for value in sorted((secret.reveal() for secret in _known), key=len, reverse=True):
        text = text.replace(value, MASK)
    return text
