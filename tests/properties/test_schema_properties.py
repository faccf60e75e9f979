"""What holds for every schema and every value."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from apprentice.json_values import unfit
from apprentice.notation import TYPES, SchemaError
from apprentice.schema import ANY_OBJECT, Schema

names = st.text("abcdefg", min_size=1, max_size=3)
texts = st.text(max_size=8).filter(lambda text: "\x00" not in text)
numbers = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3),
    max_leaves=8,
)
types = st.sampled_from(sorted(TYPES)) | st.sampled_from(sorted(TYPES)).map(lambda name: f"list[{name}]")
notations: st.SearchStrategy[Any] = st.recursive(
    types | st.lists(st.text("xyz", min_size=2, max_size=4), min_size=2, max_size=4, unique=True),
    lambda inner: (
        st.dictionaries(names, inner, min_size=1, max_size=3)
        | inner.map(lambda items: {"type": "list", "items": items})
    ),
    max_leaves=5,
)
objects = st.dictionaries(names | names.map(lambda name: f"{name}?"), notations, min_size=1, max_size=4).filter(
    lambda notation: len({name.removesuffix("?") for name in notation}) == len(notation)
)


def example_of(schema: dict[str, Any]) -> Any:
    """A value that fits a translated schema."""
    if "enum" in schema:
        return schema["enum"][0]
    if schema.get("type") == "object":
        return {name: example_of(below) for name, below in schema.get("properties", {}).items()}
    if schema.get("type") == "array":
        return [example_of(schema["items"])] if "items" in schema else []
    return {"string": "", "integer": 1, "number": 0.5, "boolean": True, None: None}[schema.get("type")]


@settings(max_examples=60, deadline=None)
@given(objects)
def test_every_notation_gives_a_schema_that_its_own_example_fits(notation):
    schema = Schema.parse(notation, closed=True)
    value = example_of(schema.json_schema)
    assert schema.check(value) is None
    assert schema.fields == tuple(name.removesuffix("?") for name in notation)


@settings(max_examples=60, deadline=None)
@given(objects)
def test_every_required_field_is_missed_and_every_optional_one_is_not(notation):
    schema = Schema.parse(notation, closed=True)
    value = example_of(schema.json_schema)
    for name in schema.fields:
        without = {key: item for key, item in value.items() if key != name}
        reason = schema.check(without)
        assert (reason is None) == schema.optional(name)
        assert reason is None or reason.startswith(f"{name}: missing")


@settings(max_examples=60, deadline=None)
@given(objects, junk)
def test_a_check_never_raises_and_agrees_with_itself(notation, value):
    schema = Schema.parse(notation, closed=True)
    assert schema.check(value) == schema.check(value)


@settings(max_examples=60, deadline=None)
@given(junk)
def test_a_notation_is_translated_or_refused_never_anything_else(notation):
    try:
        schema = Schema.parse(notation, closed=True)
    except SchemaError:
        return
    assert Schema(schema.json_schema) == schema


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(texts, json_values, max_size=4))
def test_every_json_object_is_fit_and_survives_the_wire(value):
    assert unfit(value) is None
    assert ANY_OBJECT.check(json.loads(json.dumps(value))) is None


@settings(max_examples=60, deadline=None)
@given(junk)
def test_what_is_fit_can_be_encoded(value):
    if unfit(value) is None:
        assert json.loads(json.dumps(value, allow_nan=False, ensure_ascii=False).encode()) == value
