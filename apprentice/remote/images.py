"""Images in an input: found by the paths that the task's schema names, taken out of the JSON, and sent beside it.

In the JSON that the model reads, ``(image 1)`` stands where the first image was, so that it can tell two apart.
"""

import re
from collections.abc import Callable, Sequence
from mimetypes import guess_type
from typing import Any

import msgspec

from apprentice_actors.ports import JsonObject, RemoteFailure

_DATA_URL = re.compile(r"data:(image/[a-z0-9.+-]+);base64,(.+)", re.DOTALL)


class Image(msgspec.Struct, frozen=True, kw_only=True):
    """An image: its content in base64 as ``data``, or else where it lies as ``url``."""

    media_type: str = ""
    """Such as ``image/png``; empty where an address does not show it."""
    data: str = ""
    url: str = ""

    @property
    def address(self) -> str:
        """The image as one URL: its own, or a ``data:`` URL."""
        return self.url or f"data:{self.media_type};base64,{self.data}"


def read_image(value: Any) -> Image:
    """Read what an input holds: a ``data:`` or http(s) URL, or ``{media_type, data}``. Raises ``ValueError``."""
    if isinstance(value, str):
        if inline := _DATA_URL.fullmatch(value):
            return Image(media_type=inline[1], data=inline[2])
        if value.startswith(("http://", "https://")):
            return Image(media_type=guess_type(value.partition("?")[0])[0] or "", url=value)
    elif isinstance(value, dict) and value.keys() == {"media_type", "data"} and all(map(str, value.values())):
        return Image(media_type=str(value["media_type"]), data=str(value["data"]))
    raise ValueError("it is neither a data: or http(s) URL nor {media_type, data}; send it in one of these forms")


def take_images(value: JsonObject, fields: Sequence[str]) -> tuple[JsonObject, tuple[Image, ...]]:
    """``value`` with numbers in the place of its images, and the images in that order.

    Raises ``RemoteFailure("bad_request")`` naming the field; the message does not quote the value.
    """
    images: list[Image] = []

    def number(found: Any, path: str) -> str:
        try:
            images.append(read_image(found))
        except ValueError as error:
            raise RemoteFailure("bad_request", f"{path} is no image: {error}") from None
        return f"(image {len(images)})"

    for field in fields:
        value = _replaced(value, field, field, number)
    return value, tuple(images)


def without_images(value: JsonObject, fields: Sequence[str]) -> JsonObject:
    """``value`` with a note in the place of its images, for examples: there they would cost more than they tell."""
    for field in fields:
        value = _replaced(value, field, field, lambda found, path: "(an image that is not shown)")
    return value


def _replaced(value: Any, rest: str, path: str, change: Callable[[Any, str], str]) -> Any:
    """A copy of ``value`` in which what lies at ``rest`` (``a.b[].c``) is changed; None and absent values stay."""
    if value is None:
        return None
    if not rest:
        return change(value, path)
    if rest.startswith("[]"):
        if not isinstance(value, list):
            return value
        return [_replaced(item, rest[2:].removeprefix("."), path, change) for item in value]
    end = min((at for at in (rest.find("."), rest.find("[]")) if at >= 0), default=len(rest))
    name, below = rest[:end], rest[end:].removeprefix(".")
    if not isinstance(value, dict) or name not in value:
        return value
    return {**value, name: _replaced(value[name], below, path, change)}
