"""The short notation for schemas, as people write it in YAML, and its translation to JSON Schema 2020-12.

::

    text: str                              a required string; int, float, bool, dict, list and any likewise
    note?: str        or   note: str?      a field that may be left out
    category: [billing, bug, account]      one of these values
    priority: {type: int, minimum: 1, maximum: 5}
    tags: list[str]   or   tags: {type: list, items: str, maxItems: 5}
    address: {street: str, city: str}      a nested object
    photo: image                           a data: or http(s) URL, or {media_type, data} with data in base64

A mapping with a ``type`` is read as a constrained value when everything else in it is a constraint, and as a nested
object with a field called ``type`` otherwise. The names of JSON Schema (``string``, ``integer`` …) are understood too.
"""

import re
from collections.abc import Iterable, Mapping
from copy import deepcopy
from difflib import get_close_matches
from typing import Any, NamedTuple

type JsonObject = dict[str, Any]

TYPES: Mapping[str, str | None] = {
    "str": "string",
    "int": "integer",
    "float": "number",
    "bool": "boolean",
    "dict": "object",
    "list": "array",
    "any": None,
    "string": "string",
    "integer": "integer",
    "number": "number",
    "boolean": "boolean",
    "object": "object",
    "array": "array",
}
"""Type names of the notation and the JSON Schema type each stands for; None for no restriction."""

IMAGE: JsonObject = {
    "format": "image",
    "anyOf": [
        {"type": "string", "pattern": "^(data:image/[a-z0-9.+-]+;base64,|https?://)"},
        {
            "type": "object",
            "properties": {
                "media_type": {"type": "string", "pattern": "^image/[a-z0-9.+-]+$"},
                "data": {"type": "string", "minLength": 1},
            },
            "required": ["media_type", "data"],
            "additionalProperties": False,
        },
    ],
}
"""What ``image`` stands for. A JSON Schema marks an image in the same way, by ``format: image``."""

_NUMBERS = frozenset({"integer", "number"})
CONSTRAINTS: Mapping[str, frozenset[str] | None] = {
    "minimum": _NUMBERS,
    "maximum": _NUMBERS,
    "exclusiveMinimum": _NUMBERS,
    "exclusiveMaximum": _NUMBERS,
    "multipleOf": _NUMBERS,
    "minLength": frozenset({"string"}),
    "maxLength": frozenset({"string"}),
    "pattern": frozenset({"string"}),
    "items": frozenset({"array"}),
    "minItems": frozenset({"array"}),
    "maxItems": frozenset({"array"}),
    "uniqueItems": frozenset({"array"}),
    "enum": None,
    "description": None,
}
"""Constraints of the notation and the JSON Schema types each applies to; None for all of them."""

LISTS_MAX = 16
"""Most levels of `list[…]` in one type."""

_LIST = re.compile(r"^(?:list|array)\[(.+)\]$")


class SchemaProblem(NamedTuple):
    """One finding: the path inside the schema (empty for the schema itself) and what to do about it."""

    path: str
    text: str


class SchemaError(ValueError):
    """The notation cannot be translated; ``problems`` has every finding."""

    def __init__(self, problems: Iterable[SchemaProblem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(f"{path}: {text}" if path else text for path, text in self.problems))


def nearest(word: str, valid: Iterable[str]) -> str:
    """``; did you mean `x`?`` for the nearest valid spelling, or nothing where none is near."""
    options = {option.casefold(): option for option in valid}
    close = get_close_matches(word.casefold(), options, n=1, cutoff=0.6)
    return f"; did you mean `{options[close[0]]}`?" if close else ""


def is_json_schema(notation: Mapping[Any, Any]) -> bool:
    """Whether a mapping is a whole JSON Schema rather than the short notation."""
    return "$schema" in notation or (
        notation.get("type") == "object" and isinstance(notation.get("properties"), Mapping)
    )


def translate(notation: Mapping[str, Any], *, closed: bool) -> JsonObject:
    """Translate the short notation of an object, JSON values only. ``closed`` refuses fields that it does not name.

    Raises :class:`SchemaError` with all problems found.
    """
    translation = _Translation(closed)
    schema = translation.fields(notation, "")
    if translation.problems:
        raise SchemaError(translation.problems)
    return schema


def type_name(text: Any) -> str | None:
    """The notation's type name without the mark of an optional field, or None where it is not one."""
    if not isinstance(text, str):
        return None
    bare = text.strip().removesuffix("?").strip()
    return bare if bare in TYPES or bare == "image" or _LIST.match(bare) else None


class _Translation:
    """One walk over one notation, gathering problems instead of stopping at the first."""

    def __init__(self, closed: bool) -> None:
        self.closed = closed
        self.problems: list[SchemaProblem] = []

    def problem(self, path: str, text: str) -> JsonObject:
        self.problems.append(SchemaProblem(path, text))
        return {}

    def fields(self, notation: Mapping[str, Any], path: str) -> JsonObject:
        """An object with named fields."""
        if not notation:
            return self.problem(path, "has no fields; name at least one, such as `text: str`, or write `dict`")
        properties: JsonObject = {}
        required: list[str] = []
        for key, value in notation.items():
            name = key.removesuffix("?").strip()
            if not name or "." in name:
                self.problem(path, f"`{key}` cannot be the name of a field; choose one without dots that is not empty")
                continue
            below = f"{path}.{name}" if path else name
            if name in properties:
                self.problem(below, "is given twice, once with `?` and once without; keep one")
            properties[name] = self.value(value, below)
            if not (key.endswith("?") or _says_optional(value)):
                required.append(name)
        schema: JsonObject = {"type": "object", "properties": properties, "required": required}
        return {**schema, "additionalProperties": False} if self.closed else schema

    def value(self, notation: Any, path: str) -> JsonObject:
        """Whatever stands to the right of a field's name."""
        if isinstance(notation, str):
            return self.named(notation, path)
        if isinstance(notation, list):
            return self.choices(notation, path)
        if isinstance(notation, Mapping):
            if is_json_schema(notation):
                return self.problem(path, "is JSON Schema inside the short notation; write the whole schema as one")
            return self.constrained(notation, path) if _is_constrained(notation) else self.fields(notation, path)
        return self.problem(
            path, f"expected a type such as `str`, a list of choices or nested fields, found {notation!r}"
        )

    def named(self, text: str, path: str) -> JsonObject:
        """A type by name, such as ``int``, ``str?`` or ``list[str]``."""
        bare = text.strip().removesuffix("?").strip()
        if bare.count("[") > LISTS_MAX:
            return self.problem(path, f"lists in lists more than {LISTS_MAX} deep; flatten the schema")
        if inner := _LIST.match(bare):
            return {"type": "array", "items": self.named(inner[1], f"{path}[]")}
        if bare == "image":
            return deepcopy(IMAGE)
        if bare not in TYPES:
            known = "str, int, float, bool, dict, list, any, image or list[…]"
            return self.problem(path, f"expected a type ({known}), found `{text}`{nearest(bare, [*TYPES, 'image'])}")
        name = TYPES[bare]
        return {} if name is None else {"type": name}

    def choices(self, values: list[Any], path: str) -> JsonObject:
        """A field that takes one of the given values."""
        if len(values) == 1 and (type_name(values[0]) or isinstance(values[0], Mapping)):
            return self.problem(path, "a list here means choices; for a list of values write `{type: list, items: …}`")
        if not values:
            return self.problem(path, "an empty list of choices; name at least one value")
        if wrong := [value for value in values if not isinstance(value, str | int | float | bool)]:
            return self.problem(path, f"choices are text, numbers or booleans, found {wrong[0]!r}; put text in quotes")
        if len({(type(value), value) for value in values}) < len(values):
            return self.problem(path, "a choice is given twice; keep one of each")
        if all(isinstance(value, str) for value in values):
            return {"type": "string", "enum": values}
        return {"enum": values}

    def constrained(self, notation: Mapping[str, Any], path: str) -> JsonObject:
        """``{type: int, minimum: 1}`` and ``{enum: [a, b]}``."""
        schema = self.named(notation["type"], path) if "type" in notation else {}
        kind = schema.get("type")
        for key, value in notation.items():
            if key == "type":
                continue
            if key not in CONSTRAINTS:
                self.problem(f"{path}.{key}", f"is not a constraint{nearest(key, CONSTRAINTS)}")
                continue
            applies = CONSTRAINTS[key]
            if applies is not None and kind not in applies:
                self.problem(f"{path}.{key}", f"does not apply to {notation.get('type', 'a choice')}; leave it out")
            elif key == "items":
                schema["items"] = self.value(value, f"{path}[]")
            elif key == "enum":
                schema = {**self.listed(value, path), **schema}
            else:
                schema[key] = value
        return schema

    def listed(self, values: Any, path: str) -> JsonObject:
        """The values of an ``enum`` that is written out, where a type's name is a value like any other."""
        if not isinstance(values, list):
            return self.problem(f"{path}.enum", f"expected a list of values, found {values!r}")
        if len(values) == 1 and isinstance(values[0], str):
            return {"type": "string", "enum": values}
        return self.choices(values, path)


def _says_optional(notation: Any) -> bool:
    """Whether a value's type ends in ``?``."""
    text = notation.get("type") if isinstance(notation, Mapping) and _is_constrained(notation) else notation
    return isinstance(text, str) and text.strip().endswith("?")


def _is_constrained(notation: Mapping[Any, Any]) -> bool:
    """Whether a mapping constrains one value; otherwise its keys are the fields of a nested object.

    A key that is no constraint makes it an object if it reads as a field, and a misspelt constraint if it does not.
    """
    others = {key: value for key, value in notation.items() if key != "type"}
    if "type" in notation and type_name(notation["type"]) is None:
        return False
    if "type" not in notation and not isinstance(notation.get("enum"), list):
        return False
    return not any(_reads_as_field(key, value) for key, value in others.items())


def _reads_as_field(key: Any, value: Any) -> bool:
    if key == "items":
        return False
    if key in CONSTRAINTS:
        return type_name(value) is not None
    return isinstance(value, str | Mapping | list)
