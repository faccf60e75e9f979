"""What an example counts in training."""

import pytest

from apprentice.local.student import Settings, train
from apprentice.training.weighting import weigh
from apprentice_actors.ports import Example


def example(at, label=None, **more):
    return Example(request=f"r{at}", input={"text": f"text {at}"}, output={"label": label or f"l{at}"}, **more)


def test_weights_are_the_product_of_the_rows_own_and_its_sources():
    rows = [example(1, weight=0.5), example(2, source="correction"), example(3, source="import", weight=0.5)]
    found = weigh(rows, match_fields=(), by_source={"remote": 0.5, "import": 0.1}, balance=False)
    assert found == [0.25, 1.0, 0.05]


def test_balance_lifts_rare_answers_up_to_four_times():
    rows = (
        [example(at, "common") for at in range(10)]
        + [example(10, "rare")]
        + [example(at, "some") for at in (11, 12, 13, 14)]
    )
    assert weigh(rows, match_fields=("label",), by_source={}, balance=True) == [1.0] * 10 + [4.0] + [2.5] * 4
    whole = [each for each in rows if each.output["label"] == "common"]
    assert weigh(whole, match_fields=(), by_source={}, balance=True) == [1.0] * 10
    assert weigh([], match_fields=(), by_source={}, balance=True) == []


def test_answers_are_told_apart_by_the_whole_answer_where_no_field_is_named():
    rows = [Example(request=f"r{at}", input={}, output={"label": "a", "note": at}) for at in range(3)]
    rows.append(Example(request="r3", input={}, output={"label": "b", "note": 3}))
    assert weigh(rows, match_fields=(), by_source={}, balance=True) == [1.0] * 4
    assert weigh(rows, match_fields=("label",), by_source={}, balance=True) == [1.0] * 3 + [3.0]


RARE = [f"the parcel {word} lost" for word in ("was", "is", "seems", "got")]
COMMON = [f"the parcel {word} late" for word in ("was", "is", "seems", "got")] * 5


def labelled(texts, label):
    return [Example(request=f"{label}{at}", input={"t": text}, output={"l": label}) for at, text in enumerate(texts)]


@pytest.mark.parametrize("balance", [False, True])
def test_a_balanced_student_leans_less_to_the_frequent_answer(balance):
    rows = labelled(COMMON, "late") + labelled(RARE[:1], "lost")
    student, _ = train(rows, [], schema=None, match_fields=("l",), settings=Settings(balance=balance))
    answer = student.answer([{"t": "lost or late"}])[0][0]
    assert answer["l"] == ("lost" if balance else "late")


def test_a_source_that_weighs_little_is_outvoted():
    wrong = [Example(request="w", input={"t": RARE[0]}, output={"l": "late"}, source="import")]
    rows = labelled(RARE[:1], "lost") + wrong + labelled(COMMON[:2], "late")
    told = {}
    for weight in (1.0, 0.01):
        settings = Settings(source_weights={"import": weight})
        student, _ = train(rows, [], schema=None, match_fields=("l",), settings=settings)
        told[weight] = student.answer([{"t": RARE[0]}])[0][0]["l"]
    assert told == {1.0: "late", 0.01: "lost"}
