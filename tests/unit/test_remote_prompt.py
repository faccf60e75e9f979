import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apprentice.remote.prompt import NotAnObject, canonical_json, compose, parse_object
from apprentice_actors.ports import Question

SCHEMA = {"type": "object", "properties": {"label": {"type": "string"}}}
scalars = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
words = st.text(max_size=8)
leaves = scalars | words
objects = st.dictionaries(
    words,
    leaves | st.lists(leaves, max_size=3) | st.dictionaries(words, leaves, max_size=3),
    max_size=4,
)
few = settings(max_examples=50)


@few
@given(objects)
def test_whatever_is_sent_arrives_as_it_was(asked):
    prompt = compose(Question(task="t", input=asked, description="{0} {x}"), schema_is_enforced=True)
    assert msgspec.json.decode(prompt.turns[-1]) == asked
    assert prompt.system.startswith("{0} {x}")


@few
@given(objects)
def test_what_a_model_writes_is_read_back(answer):
    text = canonical_json(answer)
    assert parse_object(text) == answer
    assert parse_object(f"\n```json\n{text}\n```\n") == answer


def test_examples_are_earlier_turns():
    question = Question(task="t", input={"x": 3}, examples=(({"x": 1}, {"y": 1}), ({"x": 2}, {"y": 2})))
    assert compose(question, schema_is_enforced=True).turns == ('{"x":1}', '{"y":1}', '{"x":2}', '{"y":2}', '{"x":3}')


def test_a_schema_is_told_in_words_only_where_it_is_not_enforced():
    question = Question(task="t", input={}, output_schema=SCHEMA)
    assert canonical_json(SCHEMA) in compose(question, schema_is_enforced=False).system
    assert canonical_json(SCHEMA) not in compose(question, schema_is_enforced=True).system


def test_a_task_without_a_description_is_named():
    assert "sort_mail" in compose(Question(task="sort_mail", input={}), schema_is_enforced=True).system


@pytest.mark.parametrize(
    "text",
    ["", "a private sentence", '{"a":', "[1]", '"text"', "null", "{} {}", '{"a": NaN}', "\ud800", "```json\n```"],
)
def test_anything_but_one_object_is_refused_without_being_quoted(text):
    with pytest.raises(NotAnObject) as caught:
        parse_object(text)
    assert "private" not in str(caught.value)


def test_endless_nesting_is_refused():
    with pytest.raises(NotAnObject):
        parse_object('{"a":' * 100_000)
