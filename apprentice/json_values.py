"""What counts as a JSON value here: stated limits, so that no value can crash or fill what comes after.

A value that passes can be encoded, hashed, stored and sent: finite numbers, integers of 64 bits, text without NUL
and without lone surrogates, string keys, and bounded depth, number and length.
"""

from math import isfinite
from typing import Any

DEPTH_MAX = 64
"""Levels of nesting."""
VALUES_MAX = 100_000
"""Values in one object, containers included."""
CHARACTERS_MAX = 4_000_000
"""Characters in all texts and keys of one object together."""

_INT_MIN, _INT_MAX = -(2**63), 2**64 - 1

type Link = tuple["Link", str | int] | None
"""The way down to a container: its parent's way, and the key or index. Read only when something is wrong."""


def unfit(value: Any) -> str | None:
    """Why ``value`` is not a JSON object within the limits, naming the field; None if it is. Does not recurse."""
    if type(value) is not dict:
        return f"expected a JSON object, found {kind(value)}"
    stack: list[tuple[Any, Link, int]] = [(value, None, 1)]
    values = characters = 0
    while stack:
        container, way, depth = stack.pop()
        values += len(container)
        if depth > DEPTH_MAX:
            return f"{spell(way)}: nested deeper than {DEPTH_MAX} levels; flatten it"
        if values > VALUES_MAX:
            return f"more than {VALUES_MAX:,} values in one object; send less at a time"
        is_map = type(container) is dict
        for key, item in container.items() if is_map else enumerate(container):
            if is_map:
                if type(key) is not str:
                    return f"{spell((way, str(key)))}: is a key of type {type(key).__name__}; write keys as text"
                if trouble := _bad_text(key):
                    return f"{spell(way)}: a key {trouble}"
                characters += len(key)
            of = type(item)
            if of is str:
                characters += len(item)
                trouble = _bad_text(item)
            elif of is dict or of is list:
                stack.append((item, (way, key), depth + 1))
                continue
            else:
                trouble = _bad_scalar(item)
            if trouble:
                return f"{spell((way, key))}: {trouble}"
        if characters > CHARACTERS_MAX:
            return f"more than {CHARACTERS_MAX:,} characters in one object; send less at a time"
    return None


def kind(value: Any) -> str:
    """A value's type in the words of the notation; None is ``null``."""
    names = {type(None): "null", str: "str", bool: "bool", int: "int", float: "float", dict: "dict", list: "list"}
    return names.get(type(value), type(value).__name__)


def spell(way: Link) -> str:
    """A way down as a path such as ``items[3].name``; the object itself is ``(top)``."""
    steps: list[str | int] = []
    while way is not None:
        way, step = way
        steps.append(step)
    return dotted(reversed(steps)) or "(top)"


def dotted(steps: Any) -> str:
    """Keys and indices as one path: ``items[3].name``."""
    text = "".join(f"[{step}]" if type(step) is int else f".{str(step)[:40]}" for step in steps)
    return text.removeprefix(".")


def _bad_text(text: str) -> str | None:
    if "\x00" in text:
        return "contains a NUL character; remove it"
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return "contains half of a surrogate pair and cannot be encoded as UTF-8; repair the text"
    return None


def _bad_scalar(item: Any) -> str | None:
    of = type(item)
    if item is None or of is bool:
        return None
    if of is float:
        return None if isfinite(item) else f"{item} is not a finite number; JSON has none such"
    if of is int:
        return None if _INT_MIN <= item <= _INT_MAX else "is an integer of more than 64 bits; send it as text"
    return f"a {of.__name__} is not a JSON value; convert it to text, a number, a list or a dict"
