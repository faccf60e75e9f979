"""What every evaluator promises, whatever it compares."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apprentice.config import TaskConfig
from apprentice.evaluators import build
from apprentice.evaluators.base import same
from apprentice_actors.ports import Evaluator, JsonObject, Question

SCHEMA = {"category": "str", "priority": "int", "tags": "list[str]", "note?": "str"}
QUESTION = Question(task="classify", input={"text": "hello"})
LEFT: JsonObject = {"category": "billing", "priority": 1, "tags": ["a", "b"]}
RIGHT: JsonObject = {"category": "shipping", "priority": 5, "tags": ["z"]}


def equal_category(local: JsonObject, remote: JsonObject, asked: JsonObject) -> bool:
    return same(local.get("category"), remote.get("category"))


async def equal_category_later(local: JsonObject, remote: JsonObject, asked: JsonObject) -> float:
    await asyncio.sleep(0)
    return float(equal_category(local, remote, asked))


class Letters:
    """A stand-in for a sentence encoder: counts of letters."""

    def encode(self, texts: list[str]) -> list[list[float]]:
        return [[float(text.count(letter)) for letter in "abcdefghijklmnopqrstuvwxyz"] for text in texts]


def task(**keys) -> TaskConfig:
    return TaskConfig.model_validate({"name": "classify", "description": "d", **keys})


EVALUATORS = {
    "exact": lambda: build(task(evaluator="exact_match")),
    "structured": lambda: build(task(output_schema=SCHEMA)),
    "structured, no schema": lambda: build(task(evaluator="structured_match")),
    "structured, chosen fields": lambda: build(task(output_schema=SCHEMA, match_fields=["category", "note"])),
    "lexical": lambda: build(task(output_schema=SCHEMA, evaluator="semantic_similarity")),
    "encoder": lambda: build(task(output_schema=SCHEMA, evaluator="semantic_similarity"), Letters()),
    "custom": lambda: build(task(evaluator="custom", evaluator_function=f"{__name__}:equal_category")),
    "custom, async": lambda: build(task(evaluator="custom", evaluator_function=f"{__name__}.equal_category_later")),
}


@pytest.fixture(params=EVALUATORS.values(), ids=EVALUATORS.keys())
def evaluator(request) -> Evaluator:
    return request.param()


async def test_the_same_answer_scores_one(evaluator):
    assert await evaluator.score(LEFT, dict(LEFT), QUESTION) == 1.0


async def test_a_different_answer_scores_less(evaluator):
    assert await evaluator.score(LEFT, RIGHT, QUESTION) < 0.5


@pytest.mark.parametrize(("local", "remote"), [(None, LEFT), (LEFT, None), (None, None)])
async def test_an_answer_that_is_missing_scores_zero_on_either_side(evaluator, local, remote):
    assert await evaluator.score(local, remote, QUESTION) == 0.0


async def test_an_empty_answer_does_not_agree_with_a_full_one(evaluator):
    assert await evaluator.score({}, LEFT, QUESTION) == 0.0
    assert await evaluator.score(LEFT, {}, QUESTION) == 0.0


async def test_the_name_is_one_of_the_configuration(evaluator):
    assert evaluator.name in ("exact_match", "structured_match", "semantic_similarity", "custom")


async def test_answers_are_left_as_they_were(evaluator):
    left, right = {**LEFT, "tags": ["a"]}, {**RIGHT, "tags": ["b"]}
    await evaluator.score(left, right, QUESTION)
    assert left == {**LEFT, "tags": ["a"]}
    assert right == {**RIGHT, "tags": ["b"]}


async def test_many_pairs_can_be_scored_at_once(evaluator):
    pairs = [(LEFT, LEFT), (LEFT, RIGHT)] * 20
    scores = await asyncio.gather(*(evaluator.score(left, right, QUESTION) for left, right in pairs))
    assert scores == [scores[0], scores[1]] * 20


values = st.none() | st.booleans() | st.integers(-3, 3) | st.floats(-3, 3) | st.sampled_from(["", "a", "A b", "é"])
answers = st.dictionaries(
    st.sampled_from([*(name.removesuffix("?") for name in SCHEMA), "other"]),
    values | st.lists(values, max_size=3) | st.dictionaries(st.sampled_from("xy"), values, max_size=2),
    max_size=5,
)


@pytest.mark.parametrize("make", EVALUATORS.values(), ids=EVALUATORS.keys())
def test_scores_lie_in_the_unit_interval_and_do_not_depend_on_the_side_or_the_time(make):
    evaluator = make()

    @settings(max_examples=60, deadline=None)
    @given(answers, answers)
    def holds(left: JsonObject, right: JsonObject) -> None:
        async def scores() -> list[float]:
            sides = [(left, right), (right, left), (left, right)]
            return [await evaluator.score(*side, QUESTION) for side in sides]

        first, swapped, again = asyncio.run(scores())
        assert 0.0 <= first <= 1.0
        assert first == pytest.approx(swapped)
        assert first == again

    holds()
