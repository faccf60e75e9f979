"""From one validation error to what a person can act on: where, what was expected, what was found, what was meant."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from apprentice.config.document import section_of, wanted
from apprentice.config.models import Config
from apprentice.config.types import Findings, Section, Where
from apprentice.config.yaml_file import spell
from apprentice.notation import SchemaError, nearest

_FOUND_MAX = 60
_LOGIN = re.compile(r"//[^/\s]*@")
"""Name and password in an address, which no error may show."""


def located(where: Where, text: str, lines: Mapping[Where, int]) -> str:
    """``tasks[0].name (line 3): text``."""
    line = line_of(where, lines)
    path = spell(where) or "the file"
    return f"{path}{f' (line {line})' if line else ''}: {text}"


def found(value: Any) -> str:
    """A value as it was found, shortened."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    text = _LOGIN.sub("//…@", str(value))
    return f"`{text}`" if len(text) <= _FOUND_MAX else f"`{text[:_FOUND_MAX]}…`"


def place_of(details: ErrorDetails) -> Where:
    """Where in the file an error is, without the steps that the models add."""
    return tuple(step for step in details["loc"] if step not in ("*", "[key]"))


def explain(details: ErrorDetails) -> Iterator[tuple[Where, str]]:
    """The problems that one error stands for."""
    where = place_of(details)
    section, field = key_at(where)
    cause = details.get("ctx", {}).get("error")
    if isinstance(cause, Findings):
        yield from ((where + below, text) for below, text in cause.found)
    elif isinstance(cause, SchemaError):
        for path, text in cause.problems:
            yield (*where, *_steps(path)), text
    elif details["type"] == "extra_forbidden":
        name = str(where[-1])
        hint = nearest(name, section.model_fields) or f"; the keys here are {', '.join(section.model_fields)}"
        yield where, f"no such key{hint}"
    elif details["type"] == "missing":
        missing = section.model_fields[str(where[-1])]
        yield where, f"missing, and required. {missing.description} Expected {wanted(missing)}"
    elif field is None:
        yield where, f"expected a mapping of keys to values, found {found(details['input'])}"
    else:
        yield where, _mismatch(field, details, item=isinstance(where[-1], int))


def _mismatch(field: FieldInfo, details: ErrorDetails, *, item: bool) -> str:
    value = details["input"]
    words = wanted(field)
    if item and details["type"] != "tuple_type":
        words = words.removeprefix("a list, each ")
    hint = ""
    if details["type"] == "literal_error":
        hint = nearest(str(value), re.findall(r"`([^`]+)`", words))
    elif words == "text" and isinstance(value, int | float):
        hint = "; put it in quotes"
    return f"expected {words}, found {found(value)}{hint}"


def key_at(where: Where) -> tuple[type[Section], FieldInfo | None]:
    """The section that a path leads into and the key it names there; None where it names the section itself."""
    section: type[Section] = Config
    field: FieldInfo | None = None
    for step in where:
        if isinstance(step, int):
            continue
        if field is not None:
            inner = section_of(field.annotation)
            if inner is None:
                return section, field
            section = inner
        field = section.model_fields.get(str(step))
    return section, field


def _steps(path: str) -> Where:
    return tuple(part for part in path.split(".") if part)


def line_of(where: Where, lines: Mapping[Where, int]) -> int | None:
    """The line of the nearest enclosing thing that stands in the file."""
    return next((lines[where[:size]] for size in range(len(where), 0, -1) if where[:size] in lines), None)
