import pytest

from apprentice.remote.output_schema import sendable
from apprentice.testing import messages_api


def with_field(**field) -> dict:
    return {"type": "object", "properties": {"x": field}, "required": ["x"]}


def sent(**field) -> dict:
    schema = sendable(with_field(**field))
    assert schema is not None
    assert (schema["type"], schema["required"], schema["additionalProperties"]) == ("object", ["x"], False)
    messages_api.check_schema(schema, "schema")
    return schema["properties"]["x"]


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ({"type": "string"}, {"type": "string"}),
        ({"type": "string", "enum": ["a", "b"]}, {"enum": ["a", "b"]}),
        ({"const": 1}, {"const": 1}),
        (
            {"type": "integer", "minimum": 1, "maximum": 5, "description": "Urgency"},
            {"type": "integer", "description": "Urgency (at least 1, at most 5)"},
        ),
        ({"type": "string", "maxLength": 10}, {"type": "string", "description": "(at most 10 characters)"}),
        ({"type": "string", "format": "date"}, {"type": "string", "format": "date"}),
        ({"type": "string", "format": "iban"}, {"type": "string", "description": "(in the format iban)"}),
        (
            {"type": "string", "pattern": "^{}$"},
            {"type": "string", "description": "(matching the regular expression ^{}$)"},
        ),
        (
            {"type": "array", "items": {"type": "number"}, "minItems": 1},
            {"type": "array", "items": {"type": "number"}, "minItems": 1},
        ),
        (
            {"type": "array", "items": {"type": "number"}, "minItems": 2},
            {"type": "array", "items": {"type": "number"}, "description": "(at least 2 items)"},
        ),
        ({"type": ["string", "null"]}, {"anyOf": [{"type": "string"}, {"type": "null"}]}),
        (
            {"type": ["integer", "null"], "minimum": 0},
            {"anyOf": [{"type": "integer", "description": "(at least 0)"}, {"type": "null"}]},
        ),
        (
            {"oneOf": [{"type": "string"}, {"type": "null"}], "title": "T"},
            {"anyOf": [{"type": "string"}, {"type": "null"}], "title": "T"},
        ),
        (
            {"type": "object", "properties": {"y": {"type": "boolean"}}},
            {"type": "object", "properties": {"y": {"type": "boolean"}}, "additionalProperties": False},
        ),
    ],
)
def test_what_can_be_enforced_is_sent_and_the_rest_is_said(field, expected):
    assert sent(**field) == expected


def test_definitions_are_sent_along():
    schema = sendable({**with_field(**{"$ref": "#/$defs/D"}), "$defs": {"D": {"type": "integer", "minimum": 3}}})
    assert schema is not None
    assert schema["properties"]["x"] == {"$ref": "#/$defs/D"}
    assert schema["$defs"] == {"D": {"type": "integer", "description": "(at least 3)"}}


@pytest.mark.parametrize(
    "field",
    [
        {},
        {"type": "object"},
        {"type": "object", "properties": {"y": {"type": "string"}}, "additionalProperties": {"type": "string"}},
        {"type": "object", "properties": {"y": {}}},
        {"type": "array"},
        {"type": "date"},
        {"type": "string", "if": {}},
        {"allOf": [{"type": "string"}]},
        {"anyOf": [{"type": "string"}], "minLength": 3},
        {"$ref": "http://elsewhere.invalid/schema"},
    ],
)
def test_what_has_no_equivalent_is_not_sent(field):
    assert sendable(with_field(**field)) is None


def test_a_schema_that_is_not_of_an_object_is_not_sent():
    assert sendable({"type": "array", "items": {"type": "string"}}) is None
    assert sendable({}) is None


def test_recursion_is_not_sent():
    node = {"type": "object", "properties": {"next": {"anyOf": [{"$ref": "#/$defs/N"}, {"type": "null"}]}}}
    assert sendable({**with_field(**{"$ref": "#/$defs/N"}), "$defs": {"N": node}}) is None


def test_the_schema_given_is_left_as_it_was():
    schema = with_field(type="array", items={"type": "string"}, minItems=1)
    sendable(schema)
    assert schema == with_field(type="array", items={"type": "string"}, minItems=1)
