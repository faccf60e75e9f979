"""What each evaluator does beyond the contract."""

import asyncio

import pytest

from apprentice.config import TaskConfig
from apprentice.errors import InvalidConfig
from apprentice.evaluators import EvaluatorError, SemanticSimilarity, build
from apprentice.evaluators.semantic import lexical_similarity
from apprentice_actors.ports import JsonObject, Question

QUESTION = Question(task="t", input={"text": "hello"})


def evaluator(encoder=None, **keys):
    return build(TaskConfig.model_validate({"name": "t", "description": "d", **keys}), encoder)


async def score(local: JsonObject | None, remote: JsonObject | None, encoder=None, **keys) -> float:
    return await evaluator(encoder, **keys).score(local, remote, QUESTION)


async def test_exact_match_compares_the_whole_answer():
    assert await score({"a": 1, "b": [1, {"c": None}]}, {"b": [1.0, {"c": None}], "a": 1.0}) == 1.0
    assert await score({"a": 1}, {"a": True}) == 0.0
    assert await score({"a": 0}, {"a": False}) == 0.0
    assert await score({"a": [1, 2]}, {"a": [2, 1]}) == 0.0
    assert await score({"a": 1}, {"a": 1, "b": None}) == 0.0
    assert await score({"a": "x"}, {"a": "X"}) == 0.0


TICKET = {"category": "str", "priority": "int", "confidence": "float"}


async def test_structured_match_counts_only_the_match_fields():
    left = {"category": "billing", "priority": 1, "confidence": 0.9}
    right = {"category": "billing", "priority": 2, "confidence": 0.1}
    assert await score(left, right, output_schema=TICKET) == pytest.approx(1 / 3)
    assert await score(left, right, output_schema=TICKET, match_fields=["category", "priority"]) == 0.5
    assert await score(left, right, output_schema=TICKET, match_fields=["category"]) == 1.0


async def test_weights_shift_the_score():
    keys = {"output_schema": TICKET, "match_fields": ["category", "priority"], "field_weights": {"category": 3}}
    left, right = {"category": "a", "priority": 1}, {"category": "a", "priority": 2}
    assert await score(left, right, **keys) == 0.75


@pytest.mark.parametrize(
    ("tolerance", "left", "right", "agrees"),
    [
        (0, 1.0, 1.1, False),
        (0, 10**15, 10**15 + 1, False),
        (0.1, 1.0, 1.1, True),
        (0.1, 0.3, 0.2, True),
        (0.1, 1.0, 1.11, False),
        ({"x": 2}, 1, 3, True),
        ({"x": 2}, 1, 4, False),
        (1, 1, True, False),
        (1, 1, None, False),
        (1, 1, "1", False),
        (0.5, [1, 2], [1.4, 2], True),
        (0.5, {"n": 1}, {"n": 1.6}, False),
    ],
)
async def test_numbers_agree_within_the_tolerance(tolerance, left, right, agrees):
    keys = {"evaluator": "structured_match", "match_fields": ["x"], "numeric_tolerance": tolerance}
    assert await score({"x": left}, {"x": right}, **keys) == float(agrees)


async def test_a_tolerance_of_one_field_does_not_reach_another():
    keys = {"output_schema": {"x": "float", "y": "float"}, "numeric_tolerance": {"x": 1}}
    assert await score({"x": 1, "y": 1}, {"x": 2, "y": 2}, **keys) == 0.5


async def test_white_space_and_composition_of_texts_do_not_count_and_case_does_unless_ignored():
    assert await score({"a": " New\n York "}, {"a": "New York"}, match_fields=["a"]) == 1.0
    assert await score({"a": "caf\u00e9"}, {"a": "cafe\u0301"}, match_fields=["a"]) == 1.0
    assert await score({"a": "new york"}, {"a": "New York"}, match_fields=["a"]) == 0.0
    assert await score({"a": "STRASSE"}, {"a": "straße"}, match_fields=["a"], ignore_case=True) == 1.0
    assert await score({"a": ["B"]}, {"a": ["b"]}, match_fields=["a"], ignore_case=True) == 1.0


async def test_lists_agree_item_by_item_in_order():
    keys = {"match_fields": ["a"]}
    assert await score({"a": ["x", "y"]}, {"a": ["x", "y"]}, **keys) == 1.0
    assert await score({"a": ["x", "y"]}, {"a": ["y", "x"]}, **keys) == 0.0
    assert await score({"a": ["x"]}, {"a": ["x", "y"]}, **keys) == 0.0


async def test_dotted_paths_reach_into_nested_objects():
    keys = {"match_fields": ["address.city", "address.zip"]}
    left, right = {"address": {"city": "Bonn", "zip": 1}}, {"address": {"city": "Bonn", "zip": 2}}
    assert await score(left, right, **keys) == 0.5
    assert await score({"address": "Bonn"}, right, **keys) == 0.0


async def test_a_missing_field_never_equals_a_missing_field():
    assert await score({"a": 1}, {"a": 1}, match_fields=["a", "b"]) == 0.5
    assert await score({"a": 1}, {"a": 1}, output_schema={"a": "int", "b": "int"}) == 0.5
    assert await score({}, {}, match_fields=["a"]) == 0.0
    assert await score({}, {}, evaluator="structured_match") == 0.0


async def test_an_optional_field_that_both_lack_is_left_out():
    keys = {"output_schema": {"a": "int", "b?": "int"}}
    assert await score({"a": 1}, {"a": 1}, **keys) == 1.0
    assert await score({"a": 1}, {"a": 2}, **keys) == 0.0
    assert await score({"a": 1, "b": 1}, {"a": 1}, **keys) == 0.5
    assert await score({"a": 1}, {"a": 1, "b": 1}, **keys) == 0.5
    assert await score({}, {}, output_schema={"b?": "int"}) == 1.0


async def test_null_is_a_value_and_not_a_missing_field():
    keys = {"output_schema": {"a": "any"}}
    assert await score({"a": None}, {"a": None}, **keys) == 1.0
    assert await score({"a": None}, {}, **keys) == 0.0


class Encoder:
    """Gives the vectors it is told, and keeps what it was asked."""

    def __init__(self, vectors):
        self.vectors = vectors
        self.asked: list[list[str]] = []

    def encode(self, texts: list[str]):
        self.asked.append(texts)
        return [self.vectors[text] for text in texts]


SEMANTIC = {"evaluator": "semantic_similarity", "output_schema": {"summary": "str", "title": "str", "n": "int"}}


async def test_the_encoder_is_asked_once_for_all_texts_and_its_cosine_is_the_score():
    encoder = Encoder({"a": [1.0, 0.0], "b": [3.0, 4.0], "c": [-1.0, 0.0]})
    left, right = {"summary": "a", "title": "a", "n": 1}, {"summary": "b", "title": "c", "n": 1}
    assert await score(left, right, encoder, **SEMANTIC) == pytest.approx((0.6 + 0.0 + 1.0) / 3)
    assert encoder.asked == [["a", "b", "a", "c"]]


async def test_the_encoder_is_not_asked_about_equal_or_empty_texts():
    encoder = Encoder({})
    left, right = {"summary": "a ", "title": "", "n": 1}, {"summary": "a", "title": "x", "n": 1}
    assert await score(left, right, encoder, **SEMANTIC) == pytest.approx(2 / 3)
    assert encoder.asked == []


def test_the_method_says_what_was_used():
    assert evaluator(**SEMANTIC).method == "lexical"
    assert evaluator(Encoder({}), **SEMANTIC).method == "encoder:Encoder"
    named = Encoder({})
    named.name = "minilm"
    assert evaluator(named, **SEMANTIC).method == "encoder:minilm"


@pytest.mark.parametrize(
    ("vectors", "expected"),
    [
        ({}, "encoder:Encoder failed on 2 texts with KeyError at test_evaluators.py:"),
        ({"a": [float("nan")], "b": [1.0]}, "not of finite numbers"),
        ({"a": [1.0], "b": [1.0, 2.0]}, "vectors of 1 and 2 numbers"),
    ],
)
async def test_an_encoder_that_fails_is_an_evaluator_error(vectors, expected):
    with pytest.raises(EvaluatorError, match=expected):
        await score({"summary": "a"}, {"summary": "b"}, Encoder(vectors), evaluator="semantic_similarity")


async def test_an_encoder_must_give_one_vector_for_each_text():
    class Short:
        def encode(self, texts):
            return [[1.0]]

    with pytest.raises(EvaluatorError, match="gave 1 vectors for 2 texts"):
        await score({"summary": "a"}, {"summary": "b"}, Short(), evaluator="semantic_similarity")


def test_lexical_similarity_orders_texts_as_people_would():
    near = lexical_similarity("The flat has two bedrooms.", "The flat has 2 bedrooms.")
    far = lexical_similarity("The flat has two bedrooms.", "Refund my last invoice.")
    assert 1.0 > near > 0.6 > 0.3 > far >= 0.0
    assert lexical_similarity("Same Text", "same text") == 1.0
    assert lexical_similarity("", "x") == 0.0


async def test_a_list_of_texts_is_compared_as_text_and_other_lists_by_agreement():
    keys = {"evaluator": "semantic_similarity", "match_fields": ["a"]}
    assert 0.3 < await score({"a": ["red house", "sea view"]}, {"a": ["red house", "lake view"]}, **keys) < 1.0
    assert await score({"a": [1, 2]}, {"a": [1, 3]}, **keys) == 0.0
    assert await score({"a": []}, {"a": []}, **keys) == 1.0


def half(local: JsonObject, remote: JsonObject, asked: JsonObject) -> float:
    assert asked == {"text": "hello"}
    return 0.5


def broken(local: JsonObject, remote: JsonObject, asked: JsonObject) -> float:
    raise ZeroDivisionError("no such thing")


def returns(value):
    return staticmethod(lambda local, remote, asked: value)


class Wrong:
    nothing = returns(None)
    text = returns("1")
    too_much = returns(1.5)
    negative = returns(-0.1)
    not_a_number = returns(float("nan"))
    a_list = returns([1])


async def test_a_custom_function_gets_both_answers_and_the_input():
    assert await score({}, {}, evaluator="custom", evaluator_function=f"{__name__}:half") == 0.5


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("nothing", "returned nothing"),
        ("text", "returned text"),
        ("too_much", "returned 1.5"),
        ("negative", "returned -0.1"),
        ("not_a_number", "returned nan"),
        ("a_list", "returned a list"),
    ],
)
async def test_a_result_that_is_not_a_score_is_an_evaluator_error(name, expected, monkeypatch):
    monkeypatch.setitem(globals(), "wrong", getattr(Wrong, name))
    with pytest.raises(EvaluatorError, match=f"must return a number from 0 to 1 or a bool, and {expected}"):
        await score({}, {}, evaluator="custom", evaluator_function=f"{__name__}:wrong")


async def test_what_a_custom_function_raises_is_an_evaluator_error_with_its_cause():
    with pytest.raises(EvaluatorError, match=r"broken raised ZeroDivisionError at test_evaluators.py:\d+;") as caught:
        await score({}, {}, evaluator="custom", evaluator_function=f"{__name__}:broken")
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert "no such thing" not in str(caught.value), "an exception's text may hold what a person wrote"


async def test_cancelling_an_async_custom_function_cancels_it(monkeypatch):
    started = asyncio.Event()

    async def waits(local, remote, asked):
        started.set()
        await asyncio.Event().wait()

    monkeypatch.setitem(globals(), "waits", waits)
    task = asyncio.create_task(score({}, {}, evaluator="custom", evaluator_function=f"{__name__}:waits"))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize(
    ("dotted", "expected"),
    [
        ("no_such_package.module:f", "the module `no_such_package.module` cannot be imported"),
        ("json:no_such_function", "the module `json` has no `no_such_function`"),
        ("json.__name__", "has something that is not a function under `__name__`"),
    ],
)
def test_a_custom_function_that_cannot_be_found_is_a_problem_of_the_configuration(dotted, expected):
    with pytest.raises(InvalidConfig, match=expected):
        evaluator(evaluator="custom", evaluator_function=dotted)


def test_semantic_similarity_is_built_with_the_encoder():
    assert isinstance(evaluator(Encoder({}), **SEMANTIC), SemanticSimilarity)
