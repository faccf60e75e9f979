"""The short notation, whole JSON Schemas, and the check with its reasons."""

import json
from enum import StrEnum
from timeit import timeit

import pytest

from apprentice.json_values import CHARACTERS_MAX, DEPTH_MAX, VALUES_MAX
from apprentice.notation import SchemaError
from apprentice.schema import ANY_OBJECT, Schema

TICKET = {
    "category": ["billing", "bug", "account"],
    "priority": {"type": "int", "minimum": 1, "maximum": 5},
    "confidence": "float",
}
HALF_PAIR = "category: contains half of a surrogate pair and cannot be encoded as UTF-8; repair the text"
DIALECT = "https://json-schema.org/draft/2020-12/schema"
GOOD = {"category": "bug", "priority": 3, "confidence": 0.5}


def output(notation) -> Schema:
    return Schema.parse(notation, closed=True)


def field(notation):
    """The JSON Schema that one field's notation stands for."""
    return output({"x": notation}).json_schema["properties"]["x"]


def whole(field):
    """A JSON Schema with one field ``a``."""
    return {"type": "object", "properties": {"a": field}}


def problems(notation) -> list[str]:
    with pytest.raises(SchemaError) as caught:
        output(notation)
    return [f"{path}: {text}" for path, text in caught.value.problems]


@pytest.mark.parametrize(
    ("notation", "expected"),
    [
        ("str", {"type": "string"}),
        ("int", {"type": "integer"}),
        ("float", {"type": "number"}),
        ("bool", {"type": "boolean"}),
        ("dict", {"type": "object"}),
        ("list", {"type": "array"}),
        ("any", {}),
        ("string", {"type": "string"}),
        ("list[str]", {"type": "array", "items": {"type": "string"}}),
        ("list[list[int]]", {"type": "array", "items": {"type": "array", "items": {"type": "integer"}}}),
        (["a", "b"], {"type": "string", "enum": ["a", "b"]}),
        ([1, 2], {"enum": [1, 2]}),
        ({"type": "int", "minimum": 1}, {"type": "integer", "minimum": 1}),
        ({"enum": ["str"]}, {"type": "string", "enum": ["str"]}),
        ({"type": "str", "enum": ["a", "b"]}, {"type": "string", "enum": ["a", "b"]}),
        (
            {"type": "list", "items": "int", "maxItems": 3},
            {"type": "array", "items": {"type": "integer"}, "maxItems": 3},
        ),
        ({"type": "str", "description": "A name."}, {"type": "string", "description": "A name."}),
    ],
)
def test_the_notation_translates(notation, expected):
    assert field(notation) == expected


def test_fields_are_required_and_outputs_are_closed():
    assert output({"a": "str"}).json_schema == {
        "type": "object",
        "properties": {"a": {"type": "string"}},
        "required": ["a"],
        "additionalProperties": False,
    }
    assert Schema.parse({"a": "str"}, closed=False).check({"a": "x", "more": 1}) is None
    assert output({"a": "str"}).check({"a": "x", "more": 1}) == "more: not a field of the schema"


@pytest.mark.parametrize("notation", [{"a?": "str"}, {"a": "str?"}, {"a": {"type": "str?", "maxLength": 3}}])
def test_a_question_mark_makes_a_field_optional(notation):
    schema = output({**notation, "b": "int"})
    assert schema.json_schema["required"] == ["b"]
    assert schema.optional("a")
    assert not schema.optional("b")
    assert schema.check({"b": 1}) is None
    assert schema.check({"b": 1, "a": None}) == "a: expected str, found null"


def test_a_mapping_is_a_nested_object_unless_it_constrains_a_type():
    assert field({"type": "str", "size": "int"})["properties"].keys() == {"type", "size"}
    assert field({"type": "str", "description": "str"})["properties"].keys() == {"type", "description"}
    nested = output({"address": {"street": "str", "city?": "str"}})
    assert nested.check({"address": {"street": "x"}}) is None
    assert nested.check({"address": {"street": "x", "zip": 1}}) == "address.zip: not a field of the schema"
    assert nested.find("address.city") == {"type": "string"}
    assert nested.optional("address.city")
    assert not nested.optional("address.street")
    assert nested.find("address.town") is None
    assert nested.find("address.street.x") is None


def test_inside_an_open_object_anything_may_be_and_nothing_must():
    schema = output({"metadata": "dict"})
    assert schema.find("metadata.source") == {}
    assert schema.optional("metadata.source")


@pytest.mark.parametrize(
    ("notation", "expected"),
    [
        ({"a": "strr"}, "a: expected a type (str, int, float, bool, dict, list, any, image or list[…]), found"),
        ({"a": {"type": "int", "minimun": 1}}, "a.minimun: is not a constraint; did you mean `minimum`?"),
        ({"a": {"type": "str", "minimum": 1}}, "a.minimum: does not apply to str; leave it out"),
        ({"a": ["str"]}, "a: a list here means choices; for a list of values write `{type: list, items: …}`"),
        ({"a": []}, "a: an empty list of choices; name at least one value"),
        ({"a": ["x", "x"]}, "a: a choice is given twice; keep one of each"),
        ({"a": ["x", None]}, "a: choices are text, numbers or booleans, found None; put text in quotes"),
        ({"a": {"enum": ["x"], "items": "str"}}, "a.items: does not apply to a choice; leave it out"),
        ({"a": None}, "a: expected a type such as `str`, a list of choices or nested fields, found None"),
        ({"a": {}}, "a: has no fields; name at least one, such as `text: str`, or write `dict`"),
        ({1: "str"}, ": 1: is a key of type int; write keys as text"),
        ({"?": "str"}, ": `?` cannot be the name of a field"),
        ({"a": {"b.c": "str"}}, "a: `b.c` cannot be the name of a field; choose one without dots"),
        ({"a": {"type": "float", "minimum": float("nan")}}, ": a.minimum: nan is not a finite number"),
        ({"a": "list[" * 5000 + "str" + "]" * 5000}, "a: lists in lists more than 16 deep"),
        ({"a": "str", "a?": "str"}, "a: is given twice, once with `?` and once without; keep one"),
        ({"a": {"type": "str", "pattern": "["}}, "properties.a.pattern: `[` is not a valid regular"),
        ({"a": {"type": "int", "minimum": "x"}}, "properties.a.minimum: 'x' is not of type 'number'"),
        ("str", ": expected fields such as `{text: str}` or a JSON Schema, found 'str'"),
        (whole({"$ref": "https://example.com/x"}), "properties.a.$ref: `https://example.com/x` is not in this schema"),
        (whole({"$ref": "#/$defs/no"}), "properties.a.$ref: `#/$defs/no` is not in this schema"),
        (whole({"type": "strin"}), "properties.a.type: 'strin' is not valid under any of the given schemas"),
        ({"$schema": "http://json-schema.org/draft-07/schema#"}, "$schema: only https://json-schema.org/draft/2020-12"),
        ({"$schema": DIALECT, "type": "array"}, "type: inputs and outputs are objects, found `array`; wrap it"),
        ({"a": whole("str")}, "a: is JSON Schema inside the short notation; write the whole schema as one"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_schema_is_named(notation, expected):
    (found,) = problems(notation)
    assert found.startswith(expected)


def test_all_mistakes_of_a_schema_come_together():
    assert len(problems({"a": "strr", "b": {"c": "intt", "d": []}, "e": {"type": "str", "minItems": 1}})) == 4


def test_nesting_without_end_is_refused_not_followed():
    notation: dict = {"x": "str"}
    for _ in range(5000):
        notation = {"x": notation}
    assert "nested deeper than" in problems(notation)[0]


def test_a_whole_json_schema_is_taken_as_it_is_and_closed_where_it_names_fields():
    whole = {
        "type": "object",
        "properties": {
            "item": {"$ref": "#/$defs/item"},
            "open": {"type": "object", "properties": {}, "additionalProperties": True},
        },
        "required": ["item"],
        "$defs": {"item": {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}},
    }
    before = json.dumps(whole)
    schema = output(whole)
    assert json.dumps(whole) == before
    assert schema.check({"item": {"n": 1}, "open": {"x": 1}}) is None
    assert schema.check({"item": {"n": 1, "other": 1}}) == "item.other: not a field of the schema"
    assert schema.find("item.n") == {"type": "integer"}
    assert not schema.optional("item.n")
    assert Schema.parse(whole, closed=False).check({"item": {"n": 1, "other": 1}}) is None


def test_a_schema_that_refers_to_itself_without_end_is_a_reason_not_a_crash():
    schema = output(
        {"type": "object", "properties": {"a": {"$ref": "#/$defs/a"}}, "$defs": {"a": {"$ref": "#/$defs/a"}}}
    )
    assert "refers to itself" in (schema.check({"a": 1}) or "")
    assert schema.find("a") == {}


def test_a_recursive_schema_works():
    tree = {"type": "object", "properties": {"children": {"type": "array", "items": {"$ref": "#"}}}}
    schema = output(tree)
    assert schema.check({"children": [{"children": []}]}) is None
    assert (
        schema.check({"children": [{"children": [{"x": 1}]}]}) == "children[0].children[0].x: not a field of the schema"
    )


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, None),
        ({"priority": 3.0}, None),
        ({"confidence": 1}, None),
        ({"priority": 9}, "priority: 9 is more than the maximum 5"),
        ({"priority": 0}, "priority: 0 is less than the minimum 1"),
        ({"priority": True}, "priority: expected int, found bool"),
        ({"priority": 3.5}, "priority: expected int, found float"),
        ({"priority": "3"}, "priority: expected int, found str"),
        ({"priority": None}, "priority: expected int, found null"),
        ({"category": "bils"}, "category: a str of 4 characters is none of billing, bug, account"),
        ({"category": "Bug"}, "category: a str of 3 characters is none of billing, bug, account; did you mean `bug`?"),
        ({"confidence": float("nan")}, "confidence: nan is not a finite number; JSON has none such"),
        ({"confidence": float("inf")}, "confidence: inf is not a finite number; JSON has none such"),
        ({"priority": 2**64}, "priority: is an integer of more than 64 bits; send it as text"),
        ({"category": "a\x00"}, "category: contains a NUL character; remove it"),
        ({"category": "\ud800"}, HALF_PAIR),
        ({"category": ("a",)}, "category: a tuple is not a JSON value; convert it to text, a number, a list or a dict"),
        ({"x\x00": 1}, "(top): a key contains a NUL character; remove it"),
        ({1: 1}, "1: is a key of type int; write keys as text"),
    ],
)  # fmt: skip
def test_the_reason_names_field_and_rule(change, expected):
    assert output(TICKET).check({**GOOD, **change}) == expected


def test_a_missing_field_is_named_with_what_it_may_have_been_sent_as():
    schema = output(TICKET)
    assert schema.check({"priority": 3, "confidence": 0.5}) == "category: missing, and required"
    reason = schema.check({"categry": "bug", "priority": 3, "confidence": 0.5})
    assert reason == "category: missing, and required; was it sent as `categry`?"


def test_the_second_of_two_missing_fields_is_not_blamed_for_the_first():
    schema = Schema.parse({"a": "str", "b": "str"}, closed=False)
    assert schema.check({"a": "x"}) == "b: missing, and required"


@pytest.mark.parametrize(
    ("notation", "value", "expected"),
    [
        ({"type": "str", "minLength": 3}, "ab", "x: has 2 characters, fewer than the minimum 3"),
        ({"type": "str", "maxLength": 1}, "ab", "x: has 2 characters, more than the maximum 1"),
        ({"type": "str", "pattern": "^a$"}, "secret", "x: a str of 6 characters does not match the pattern ^a$"),
        ({"type": "list", "minItems": 1}, [], "x: has 0 items, fewer than the minimum 1"),
        ({"type": "list", "maxItems": 1}, [1, 2], "x: has 2 items, more than the maximum 1"),
        ({"type": "list", "uniqueItems": True}, [1, 1], "x: has the same item twice"),
        ({"type": "float", "exclusiveMinimum": 0}, 0, "x: 0 is not more than 0"),
        ({"type": "float", "exclusiveMaximum": 1}, 1.0, "x: 1.0 is not less than 1"),
        ({"type": "int", "multipleOf": 5}, 7, "x: 7 is not a multiple of 5"),
        ("list[int]", [1, "a"], "x[1]: expected int, found str"),
        ({"type": "list", "items": {"n": "int"}}, [{"n": "a"}], "x[0].n: expected int, found str"),
    ],
)
def test_each_constraint_has_its_words(notation, value, expected):
    assert output({"x": notation}).check({"x": value}) == expected


def test_reasons_never_quote_text_of_the_value():
    schema = output({**TICKET, "note": {"type": "str", "pattern": "^x$"}, "n": "int"})
    for change in ({"category": "Ms Secret"}, {"note": "Ms Secret"}, {"n": "Ms Secret"}, {"n": ["Ms Secret"]}):
        assert "Secret" not in (schema.check({**GOOD, "note": "x", "n": 1, **change}) or "Secret")


def test_without_a_schema_any_json_object_will_do_and_nothing_else():
    assert ANY_OBJECT.check({"a": [1, {"b": None}], "c": True}) is None
    assert ANY_OBJECT.check([1]) == "expected a JSON object, found list"
    assert ANY_OBJECT.check(None) == "expected a JSON object, found null"
    assert (ANY_OBJECT.check({"a": StrEnum("Mood", "GOOD").GOOD}) or "").startswith("a: a Mood is not a JSON value")


def test_size_and_depth_are_limited_and_cannot_crash():
    deep: dict = {}
    for _ in range(100_000):
        deep = {"a": deep}
    assert f"nested deeper than {DEPTH_MAX} levels" in (ANY_OBJECT.check(deep) or "")
    loop: dict = {}
    loop["self"] = loop
    assert "nested deeper" in (ANY_OBJECT.check(loop) or "")
    assert "more than 100,000 values" in (ANY_OBJECT.check({"a": [0] * (VALUES_MAX + 1)}) or "")
    assert "more than 4,000,000 characters" in (ANY_OBJECT.check({"a": "x" * (CHARACTERS_MAX + 1)}) or "")
    edge: dict = {}
    for _ in range(DEPTH_MAX - 1):
        edge = {"a": edge}
    assert ANY_OBJECT.check(edge) is None


def test_schemas_are_equal_where_their_json_schemas_are():
    assert output(TICKET) == output(dict(TICKET))
    assert hash(output(TICKET)) == hash(output(dict(TICKET)))
    assert output(TICKET) != Schema.parse(TICKET, closed=False)
    assert "billing" in repr(output(TICKET))


def test_a_check_is_cheap():
    schema = output(TICKET)
    best = min(timeit(lambda: schema.check(GOOD), number=200) / 200 for _ in range(5))
    assert best < 300e-6, f"{best * 1e6:.0f} µs: ten times what it takes on a slow machine"
