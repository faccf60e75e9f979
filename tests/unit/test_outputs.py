import jsonschema
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apprentice.remote import Completion
from apprentice.remote.output_schema import strict
from apprentice.remote.outputs import output_of, without_absent
from apprentice.remote.prompt import NotAnObject
from apprentice.remote.wire import ToolCall
from apprentice_actors.ports import Question
from apprentice_events.vocabulary import TokenUsage

TOOLS = ({"name": "f", "description": "d", "parameters": {"type": "object"}},)
PLAIN = Question(task="t", input={})
WITH_TOOLS = Question(task="t", input={}, tools=TOOLS)
CALL = ToolCall(name="f", arguments={"x": 1})
SCHEMA = {
    "type": "object",
    "$defs": {"inner": {"type": "object", "properties": {"note": {"type": "string"}, "size": {"type": "integer"}}}},
    "properties": {
        "must": {"type": ["string", "null"]},
        "may": {"type": "integer"},
        "nullable": {"type": ["integer", "null"]},
        "choice": {"enum": ["a", None]},
        "either": {"anyOf": [{"type": "string"}, {"type": "integer"}]},
        "inner": {"$ref": "#/$defs/inner"},
        "list": {"type": "array", "items": {"$ref": "#/$defs/inner"}},
    },
    "required": ["must"],
}


def completion(text: str = "", *calls: ToolCall) -> Completion:
    return Completion(model="m", text=text, usage=TokenUsage(), tool_calls=calls)


def test_answers_with_and_without_tools():
    assert output_of(PLAIN, completion('{"a":1}')) == {"a": 1}
    assert output_of(WITH_TOOLS, completion("words")) == {"content": "words"}
    assert output_of(WITH_TOOLS, completion("words", CALL)) == {"tool_calls": [{"name": "f", "arguments": {"x": 1}}]}


@pytest.mark.parametrize(
    ("question", "said"),
    [
        (PLAIN, completion("words")),
        (PLAIN, completion("{}", CALL)),
        (WITH_TOOLS, completion(" ")),
        (WITH_TOOLS, completion("", msgspec.structs.replace(CALL, name="g"))),
    ],
)
def test_what_is_no_answer(question, said):
    with pytest.raises(NotAnObject):
        output_of(question, said)


def test_nulls_that_mean_left_out_are_taken_out_and_others_stay():
    inner = {"note": None, "size": 1}
    value = {
        "must": None,
        "may": None,
        "nullable": None,
        "choice": None,
        "either": None,
        "inner": inner,
        "list": [inner],
        "x": None,
    }
    kept = {"size": 1}
    assert without_absent(value, SCHEMA) == {
        "must": None,
        "nullable": None,
        "choice": None,
        "inner": kept,
        "list": [kept],
        "x": None,
    }


def test_a_value_without_a_schema_stays_as_it_is():
    assert without_absent({"a": None}, None) == {"a": None}


@pytest.mark.parametrize(
    "schema", [{"type": "object"}, {"type": "object", "additionalProperties": {"type": "integer"}}]
)
def test_what_cannot_be_enforced_is_not_strict_either(schema):
    assert strict(schema) is None


kinds = st.sampled_from([{"type": "string"}, {"type": "integer"}, {"type": ["integer", "null"]}, {"enum": ["a", "b"]}])
fields = st.dictionaries(st.sampled_from(["a", "b", "c"]), kinds, min_size=1)


@settings(max_examples=60)
@given(fields, st.sets(st.sampled_from(["a", "b", "c"])), st.data())
def test_an_answer_to_the_strict_schema_fits_the_original_once_nulls_are_out(properties, required, data):
    needed = sorted(required & set(properties))
    schema = {"type": "object", "properties": properties, "required": needed, "additionalProperties": False}
    sent = strict(schema)
    assert sorted(sent["required"]) == sorted(properties)
    values = {"string": "x", "integer": 3}
    answer = {}
    for name, kind in properties.items():
        value = (
            kind["enum"][0] if "enum" in kind else values[kind["type"] if isinstance(kind["type"], str) else "integer"]
        )
        nullable = name not in needed or isinstance(kind.get("type"), list)
        answer[name] = data.draw(st.sampled_from([value, None])) if nullable else value
    jsonschema.validate(answer, sent)
    jsonschema.validate(without_absent(answer, schema), schema)
