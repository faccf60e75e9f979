"""What a generative student is told and what it is to write."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apprentice.local.chat import answer_schema, messages, ordered, read, target
from apprentice_actors.ports import LocalFailure, Question

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "zip": {"type": "string"},
        "note": {"type": "string"},
        "address": {
            "type": "object",
            "properties": {"town": {"type": "string"}, "road": {"type": "string"}},
            "required": ["town"],
        },
    },
    "required": ["zip", "address"],
}


def ask(**more: Any) -> Question:
    return Question(task="t", input={"text": "hi"}, **{"output_schema": SCHEMA, **more})


def test_required_fields_come_first_then_optional_ones_each_alphabetically_at_every_level():
    written = target({"zip": "1", "note": "n", "address": {"road": "r", "town": "t"}}, SCHEMA)
    assert written == '{"address":{"town":"t","road":"r"},"zip":"1","note":"n"}'
    assert list(ordered(SCHEMA)["properties"]) == ["address", "zip", "note"]
    assert list(ordered(SCHEMA)["properties"]["address"]["properties"]) == ["town", "road"]


def test_the_schema_means_the_same_whatever_its_order():
    assert ordered(SCHEMA) == SCHEMA


def test_lists_of_objects_are_ordered_inside():
    schema = {"properties": {"rows": {"items": {"properties": {"b": {}, "a": {}}, "required": ["b"]}}}}
    assert target({"rows": [{"a": 1, "b": 2}, 3]}, schema) == '{"rows":[{"b":2,"a":1},3]}'


@given(st.dictionaries(st.sampled_from(["zip", "note", "other"]), st.text(max_size=4)))
def test_a_target_reads_back_as_the_output(output):
    assert json.loads(target(output, SCHEMA)) == output
    assert read(target(output, SCHEMA), ask()) == output


def test_the_chat_is_a_system_message_and_turns_that_end_with_the_input():
    told = messages(ask(description="Sort {mail}.", examples=(({"text": "a"}, {"zip": "2"}),)))
    assert [one["role"] for one in told] == ["system", "user", "assistant", "user"]
    assert "Sort {mail}." in told[0]["content"]
    assert '"zip"' in told[0]["content"]
    assert told[-1]["content"] == '{"text":"hi"}'


def test_tools_are_offered_and_the_answer_is_calls_or_content():
    tools = ({"name": "refund", "description": "pay back", "parameters": {"type": "object"}},)
    question = ask(output_schema=None, tools=tools)
    assert "pay back" in messages(question)[0]["content"]
    schema = answer_schema(question)
    assert schema is not None
    called, plain = schema["anyOf"]
    assert called["properties"]["tool_calls"]["items"]["properties"]["name"] == {"enum": ["refund"]}
    assert plain["required"] == ["content"]


def test_without_a_schema_any_object_may_be_written():
    assert answer_schema(ask(output_schema=None)) is None


def test_text_that_is_no_object_is_a_failure_that_does_not_quote_it():
    for text in ("secret", "[1]", '{"zip": '):
        with pytest.raises(LocalFailure) as caught:
            read(text, ask())
        assert "secret" not in str(caught.value)


def test_images_are_a_failure():
    question = Question(
        task="t", input={"photo": "data:image/png;base64,AAAA"}, output_schema=SCHEMA, image_fields=("photo",)
    )
    with pytest.raises(LocalFailure, match="images"):
        messages(question)
