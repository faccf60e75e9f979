"""Why a value breaks its schema, in words a person can act on. Text of the value is never quoted."""

from collections.abc import Callable, Mapping
from typing import Any

from jsonschema.exceptions import ValidationError

from apprentice.json_values import dotted, kind
from apprentice.notation import nearest

_SHORT = {
    "string": "str",
    "integer": "int",
    "number": "float",
    "boolean": "bool",
    "object": "dict",
    "array": "list",
    "null": "null",
}
_LISTED_MAX = 12


def reason(error: ValidationError) -> str:
    """One line for one finding: ``priority: 9 is more than the maximum 5``."""
    say = _RULES.get(str(error.validator), _otherwise)
    path = dotted(error.absolute_path)
    name, text = say(error.instance, error.validator_value, error)
    where = ".".join(part for part in (path, name) if part)
    return f"{where}: {text}" if where else text


def shown(value: Any) -> str:
    """A value as it may stand in a reason: numbers and booleans as they are, everything else by kind and size."""
    if isinstance(value, bool | int | float) or value is None:
        return str(value) if value is not None else "null"
    if isinstance(value, str):
        return f"a str of {len(value)} character{'' if len(value) == 1 else 's'}"
    return f"a {kind(value)} of {len(value)}" if isinstance(value, dict | list) else f"a {kind(value)}"


type _Said = tuple[str, str]


def _type(value: Any, wanted: Any, _: ValidationError) -> _Said:
    names = [wanted] if isinstance(wanted, str) else list(wanted)
    return "", f"expected {' or '.join(_SHORT.get(name, name) for name in names)}, found {kind(value)}"


def _enum(value: Any, choices: list[Any], _: ValidationError) -> _Said:
    listed = ", ".join(str(choice) for choice in choices[:_LISTED_MAX])
    more = f" … ({len(choices)} in all)" if len(choices) > _LISTED_MAX else ""
    hint = nearest(value, [choice for choice in choices if isinstance(choice, str)]) if isinstance(value, str) else ""
    return "", f"{shown(value)} is none of {listed}{more}{hint}"


def _required(value: Mapping[str, Any], names: list[str], error: ValidationError) -> _Said:
    known = error.schema.get("properties", {}) if isinstance(error.schema, Mapping) else {}
    missing = next((name for name in names if name not in value and repr(name) in error.message), names[0])
    extra = [key for key in value if key not in known]
    likely = nearest(missing, extra)
    return missing, f"missing, and required{likely.replace('did you mean', 'was it sent as') if likely else ''}"


def _extra(value: Mapping[str, Any], _: Any, error: ValidationError) -> _Said:
    known = error.schema.get("properties", {}) if isinstance(error.schema, Mapping) else {}
    name = next((key for key in value if key not in known), "")
    return name[:60], f"not a field of the schema{nearest(name, known)}"


def _bound(words: str) -> Callable[[Any, Any, ValidationError], _Said]:
    return lambda value, limit, _: ("", f"{shown(value)} {words} {limit}")


def _size(words: str) -> Callable[[Any, Any, ValidationError], _Said]:
    return lambda value, limit, _: ("", f"has {len(value)} {words} {limit}")


def _otherwise(value: Any, rule: Any, error: ValidationError) -> _Said:
    return "", f"{shown(value)} breaks the schema's `{error.validator}`"


_RULES: Mapping[str, Callable[[Any, Any, ValidationError], _Said]] = {
    "type": _type,
    "enum": _enum,
    "required": _required,
    "additionalProperties": _extra,
    "unevaluatedProperties": _extra,
    "minimum": _bound("is less than the minimum"),
    "maximum": _bound("is more than the maximum"),
    "exclusiveMinimum": _bound("is not more than"),
    "exclusiveMaximum": _bound("is not less than"),
    "multipleOf": _bound("is not a multiple of"),
    "const": _bound("is not the only value allowed, which is"),
    "pattern": _bound("does not match the pattern"),
    "minLength": _size("characters, fewer than the minimum"),
    "maxLength": _size("characters, more than the maximum"),
    "minItems": _size("items, fewer than the minimum"),
    "maxItems": _size("items, more than the maximum"),
    "uniqueItems": lambda value, _rule, _error: ("", "has the same item twice"),
}
