"""The part of a JSON Schema that a provider can enforce while it writes.

Structured output of the Messages API takes objects whose properties are all named (``additionalProperties: false``),
without recursion and without numeric or length limits. Limits that cannot be sent as rules are told in words instead,
in the description of the field they belong to; the runtime's validation gate checks the full schema on every answer.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from apprentice_actors.ports import JsonObject

_REFERENCE = "#/$defs/"
_FORMATS = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"})
_SILENT = frozenset(
    {"$schema", "$id", "$comment", "$defs", "title", "description", "default", "examples", "deprecated"}
)
"""Keywords that do not say which answers are right, or are dealt with elsewhere."""
_OBJECT = frozenset({"properties", "required", "additionalProperties"})
_LIMITS = {
    "minimum": "at least {}",
    "maximum": "at most {}",
    "exclusiveMinimum": "above {}",
    "exclusiveMaximum": "below {}",
    "multipleOf": "a multiple of {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "pattern": "matching the regular expression {}",
    "format": "in the format {}",
    "minItems": "at least {} items",
    "maxItems": "at most {} items",
    "uniqueItems": "with no item twice",
}
_NUMERIC = frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"})
_KEYWORDS: Mapping[str, frozenset[str]] = {
    "object": _OBJECT,
    "array": frozenset({"items", "minItems", "maxItems", "uniqueItems"}),
    "string": frozenset({"minLength", "maxLength", "pattern", "format"}),
    "integer": _NUMERIC,
    "number": _NUMERIC,
    "boolean": frozenset(),
    "null": frozenset(),
}
"""What each type understands; the keywords of other types are without effect on it."""


class _Unsendable(Exception):
    """The schema uses something that has no equivalent."""


def sendable(schema: JsonObject) -> JsonObject | None:
    """``schema`` in the form a provider can enforce, or None if it has something that cannot be enforced.

    The result lets every answer of named fields through that ``schema`` lets through, and perhaps more. Free maps,
    recursion, references to other documents and combined schemas give None.
    """
    definitions: Mapping[str, Any] = schema.get("$defs", {})
    if schema.get("type") != "object" or _recursive(definitions):
        return None
    try:
        body = _convert(schema)
        if definitions:
            body["$defs"] = {name: _convert(part) for name, part in definitions.items()}
    except _Unsendable:
        return None
    return body


def strict(schema: JsonObject) -> JsonObject | None:
    """``schema`` in the form of strict structured output, in which every field is written; None as :func:`sendable`.

    A field that may be left out may be null instead; :func:`apprentice.remote.outputs.without_absent` takes it out.
    """
    body = sendable(schema)
    return None if body is None else _all_required(body)


def _all_required(part: JsonObject) -> JsonObject:
    body = dict(part)
    if "$defs" in body:
        body["$defs"] = {name: _all_required(below) for name, below in body["$defs"].items()}
    if "anyOf" in body:
        body["anyOf"] = [_all_required(option) for option in body["anyOf"]]
    if "items" in body:
        body["items"] = _all_required(body["items"])
    if "properties" in body:
        needed = body.get("required", ())
        fields = {name: _all_required(below) for name, below in body["properties"].items()}
        body["properties"] = {name: below if name in needed else _or_null(below) for name, below in fields.items()}
        body["required"] = list(fields)
    return body


def _or_null(part: JsonObject) -> JsonObject:
    options = part["anyOf"] if set(part) == {"anyOf"} else [part]
    null = {"type": "null"}
    return {"anyOf": [*options, null]} if null not in options else {"anyOf": options}


def _convert(part: Any) -> JsonObject:
    if not isinstance(part, Mapping):
        raise _Unsendable
    if "$ref" in part:
        if not str(part["$ref"]).startswith(_REFERENCE):
            raise _Unsendable
        return {"$ref": part["$ref"]}
    body = _values(part) or _alternatives(part) or _typed(part)
    for key in ("title", "description"):
        if key in part:
            body[key] = " ".join(filter(None, [str(part[key]), body.get(key)]))
    return body


def _values(part: Mapping[str, Any]) -> JsonObject | None:
    """An enumeration says everything by itself; limits beside it are left to the validation gate."""
    for key in ("enum", "const"):
        if key in part:
            return {key: part[key]}
    return None


def _alternatives(part: Mapping[str, Any]) -> JsonObject | None:
    options: Iterable[Any] | None = part.get("anyOf", part.get("oneOf"))
    if options is None and isinstance(part.get("type"), list):
        options = [_of_type(part, kind) for kind in part["type"]]
    elif options is not None and set(part) - {"anyOf", "oneOf", "type"} - _SILENT:
        raise _Unsendable
    return None if options is None else {"anyOf": [_convert(option) for option in options]}


def _of_type(part: Mapping[str, Any], kind: str) -> JsonObject:
    kept = _KEYWORDS.get(kind, frozenset())
    return {"type": kind, **{key: value for key, value in part.items() if key in kept}}


def _typed(part: Mapping[str, Any]) -> JsonObject:
    kind = part.get("type")
    if kind not in _KEYWORDS:
        raise _Unsendable
    used = {key: value for key, value in part.items() if key not in _SILENT and key != "type"}
    if set(used) - _OBJECT - {"items"} - set(_LIMITS):
        raise _Unsendable
    body: JsonObject = {"type": kind}
    if kind == "object":
        body |= _object(used)
    elif kind == "array":
        if "items" not in used:
            raise _Unsendable
        body["items"] = _convert(used["items"])
        if used.get("minItems") in (0, 1):
            body["minItems"] = used.pop("minItems")
    elif kind == "string" and used.get("format") in _FORMATS:
        body["format"] = used.pop("format")
    words = [_LIMITS[key].replace("{}", str(value)) for key, value in used.items() if key in _LIMITS]
    if words:
        body["description"] = f"({', '.join(words)})"
    return body


def _object(used: Mapping[str, Any]) -> JsonObject:
    properties = used.get("properties", {})
    if isinstance(used.get("additionalProperties"), Mapping) or not properties:
        raise _Unsendable
    body: JsonObject = {
        "properties": {name: _convert(value) for name, value in properties.items()},
        "additionalProperties": False,
    }
    if "required" in used:
        body["required"] = used["required"]
    return body


def _recursive(definitions: Mapping[str, Any]) -> bool:
    """Whether a definition refers to itself, by whatever detour."""
    targets = {name: _references(part) for name, part in definitions.items()}

    def reaches(name: str, seen: frozenset[str]) -> bool:
        return name in seen or any(reaches(target, seen | {name}) for target in targets.get(name, ()))

    return any(reaches(name, frozenset()) for name in targets)


def _references(part: Any) -> set[str]:
    if isinstance(part, Mapping):
        own = {str(part["$ref"]).removeprefix(_REFERENCE)} if "$ref" in part else set()
        return own.union(*(_references(value) for value in part.values()))
    if isinstance(part, list):
        return set().union(*(_references(value) for value in part))
    return set()
