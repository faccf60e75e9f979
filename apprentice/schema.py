"""Schemas of task inputs and outputs, and the check that every value passes before anyone acts on it.

Validation is by ``jsonschema`` (the 2020-12 dialect in full, no generated code): about 20 µs for a flat object of three
fields, measured. ``fastjsonschema`` takes 1 µs but stops at draft 7 and skips newer keywords without a word, and a
constraint that is skipped is worse than one that is slow.

Reasons name the field and the rule and show numbers, but never quote text: they are kept in the log, where a
person's words could not be erased.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match
from referencing import Registry, Resource
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from apprentice.json_values import unfit
from apprentice.notation import JsonObject, SchemaError, SchemaProblem, is_json_schema, translate
from apprentice.schema_reasons import reason

_LITERAL = frozenset({"enum", "const", "default", "examples"})
"""Keywords whose values are data, not schemas."""
_REFERENCES_MAX = 32


class Schema:
    """What an object must look like. Immutable; equal where the JSON Schemas are equal.

    ``json_schema`` is the JSON Schema (2020-12) to hand to providers. Treat it as read-only.
    """

    __slots__ = ("_validator", "json_schema")

    def __init__(self, json_schema: JsonObject) -> None:
        """Take a JSON Schema of an object as it is. Raises :class:`SchemaError` where it cannot work."""
        if problems := list(_faults(json_schema)):
            raise SchemaError(problems)
        self.json_schema = json_schema
        self._validator = Draft202012Validator(json_schema, registry=Registry())

    @classmethod
    def parse(cls, notation: Any, *, closed: bool) -> "Schema":
        """Read the short notation (see :mod:`apprentice.notation`) or a whole JSON Schema.

        ``closed`` refuses fields that the schema does not name, at every level that names any; where a JSON Schema
        says ``additionalProperties`` itself, its word stands. Raises :class:`SchemaError` with all problems.
        """
        if not isinstance(notation, Mapping):
            text = f"expected fields such as `{{text: str}}` or a JSON Schema, found {notation!r}"
            raise SchemaError([SchemaProblem("", text)])
        if trouble := unfit(dict(notation)):
            raise SchemaError([SchemaProblem("", trouble)])
        if not is_json_schema(notation):
            return cls(translate(notation, closed=closed))
        if problems := list(_faults(dict(notation))):
            raise SchemaError(problems)
        return cls(_closed(notation) if closed else dict(notation))

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the top-level fields, in the order of the schema."""
        return tuple(self._resolved(self.json_schema).get("properties", ()))

    @property
    def images(self) -> tuple[str, ...]:
        """Paths of the fields that hold images, such as ``photo``, ``address.map`` or ``pages[]``."""
        return tuple(self._images(self.json_schema, "", frozenset()))

    def check(self, value: Any) -> str | None:
        """None if ``value`` is a JSON object that fits, else the reason, naming the field. Never raises."""
        if trouble := unfit(value):
            return trouble
        try:
            error = next(self._validator.iter_errors(value), None)
            if error is None:
                return None
            return reason(best_match(self._validator.iter_errors(value)) or error)
        except RecursionError:
            return "the schema refers to itself without end for this value; check its `$ref`s"

    def find(self, path: str) -> JsonObject | None:
        """The schema of the field at a dotted path; ``{}`` inside an open object, None where there can be no field."""
        node = self._resolved(self.json_schema)
        for name in path.split("."):
            below = _below(node, name)
            if below is None:
                return None
            node = self._resolved(below)
        return node

    def optional(self, path: str) -> bool:
        """Whether an object that fits may lack the field at a dotted path."""
        node = self._resolved(self.json_schema)
        for name in path.split("."):
            if name not in node.get("required", ()):
                return True
            node = self._resolved(_below(node, name) or {})
        return False

    def _images(self, node: JsonObject, path: str, above: frozenset[int]) -> Iterator[str]:
        node = self._resolved(node)
        if id(node) in above:  # a schema that contains itself
            return
        above |= {id(node)}
        if node.get("format") == "image":
            yield path
            return
        for name, below in node.get("properties", {}).items():
            if isinstance(below, dict):
                yield from self._images(below, f"{path}.{name}" if path else name, above)
        if isinstance(node.get("items"), dict):
            yield from self._images(node["items"], f"{path}[]", above)

    def _resolved(self, node: JsonObject) -> JsonObject:
        """Follow ``$ref`` to what it stands for; an endless chain ends as ``{}``."""
        resolver = Registry().resolver_with_root(Resource.from_contents(self.json_schema, DRAFT202012))
        for _ in range(_REFERENCES_MAX):
            if "$ref" not in node:
                return node
            found = resolver.lookup(node["$ref"]).contents
            node = found if isinstance(found, dict) else {}
        return {}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Schema) and self.json_schema == other.json_schema

    def __hash__(self) -> int:
        return hash(repr(self.json_schema))

    def __repr__(self) -> str:
        return f"Schema({self.json_schema!r})"


def _below(node: JsonObject, name: str) -> JsonObject | None:
    properties = node.get("properties", {})
    if name in properties:
        found = properties[name]
        return found if isinstance(found, dict) else {}
    extra = node.get("additionalProperties", True)
    if node.get("type", "object") != "object" or extra is False:
        return None
    return extra if isinstance(extra, dict) else {}


def _closed(node: Any) -> Any:
    """A copy that refuses unnamed fields wherever some are named; parts of ``allOf`` complete each other: left open."""
    if isinstance(node, list):
        return [_closed(item) for item in node]
    if not isinstance(node, Mapping):
        return node
    copy = {key: value if key in _LITERAL or key == "allOf" else _closed(value) for key, value in node.items()}
    names_fields = isinstance(node.get("properties"), Mapping) and node.get("type", "object") == "object"
    if names_fields and "allOf" not in node and "unevaluatedProperties" not in node:
        copy.setdefault("additionalProperties", False)
    return copy


def _faults(schema: JsonObject) -> Iterator[SchemaProblem]:
    """Why a JSON Schema cannot be used: breaks the dialect, is not of an object, points elsewhere, bad patterns."""
    dialect = schema.get("$schema", Draft202012Validator.META_SCHEMA["$schema"])
    if str(dialect).rstrip("#") != Draft202012Validator.META_SCHEMA["$schema"]:
        yield SchemaProblem("$schema", "only https://json-schema.org/draft/2020-12/schema is understood; write that")
        return
    broken = [
        SchemaProblem(".".join(map(str, error.absolute_path)), error.message[:200])
        for error in Draft202012Validator(Draft202012Validator.META_SCHEMA).iter_errors(schema)
    ]
    if broken:
        yield from broken
        return
    if schema.get("type", "object") != "object":
        yield SchemaProblem("type", f"inputs and outputs are objects, found `{schema['type']}`; wrap it in a field")
    resolver = Registry().resolver_with_root(Resource.from_contents(schema, DRAFT202012))
    for path, key, value in _keywords(schema, ""):
        if key == "$ref" or key == "$dynamicRef":
            try:
                resolver.lookup(value)
            except Unresolvable:
                yield SchemaProblem(path, f"`{value}` is not in this schema; only references inside it are followed")
        elif not _compiles(value):
            yield SchemaProblem(path, f"`{value}` is not a valid regular expression; correct it")


def _keywords(node: Any, path: str) -> Iterator[tuple[str, str, str]]:
    """Every ``$ref`` and pattern of a schema as (path, keyword, text)."""
    if isinstance(node, list):
        for index, item in enumerate(node):
            yield from _keywords(item, f"{path}[{index}]")
    if not isinstance(node, Mapping):
        return
    for key, value in node.items():
        below = f"{path}.{key}" if path else str(key)
        if key in ("$ref", "$dynamicRef", "pattern") and isinstance(value, str):
            yield below, key, value
        elif key == "patternProperties" and isinstance(value, Mapping):
            yield from ((below, "pattern", str(pattern)) for pattern in value)
        if key not in _LITERAL:
            yield from _keywords(value, below)


def _compiles(pattern: str) -> bool:
    try:
        re.compile(pattern)
    except re.error:
        return False
    return True


ANY_OBJECT = Schema({"type": "object"})
"""What a task without a schema takes: any JSON object."""
