"""How unlike the training inputs an input is: on its own scale, whatever the features."""

import asyncio

import msgspec
import pytest
from test_heads import fit, tickets

from apprentice.local.embedded import EmbeddedModel
from apprentice.local.student import Student, Told
from apprentice.privacy.models import RedactingLocalModel
from apprentice_actors.ports import Question
from apprentice_events.inputs_state import UNUSUAL, Inputs


def novelty(student: Student, inputs) -> list[float]:
    told = [one.novelty for one in student.tell(inputs)]
    assert all(value is not None and 0.0 <= value <= 1.0 for value in told)
    return told


@pytest.mark.parametrize("rows", [60, 300])
def test_inputs_like_those_trained_on_are_unusual_one_time_in_twenty(rows):
    student, _ = fit(tickets(rows))
    told = novelty(student, [row.input for row in tickets(600, seed=7)])
    unusual = sum(value >= UNUSUAL for value in told) / len(told)
    assert 0.005 < unusual < 0.12
    assert 0.35 < sum(told) / len(told) < 0.65


def test_strangers_are_unusual_and_soon_noticed():
    student, _ = fit(tickets(200))
    strangers = [{"text": f"der zug nach bahnhof {number} hat verspaetung"} for number in range(40)]
    told = novelty(student, strangers)
    assert min(told) >= UNUSUAL
    inputs = Inputs()
    for value in told:
        inputs.saw(value)
    assert inputs.unusual > 0.3


def test_an_input_of_the_training_set_is_not_new_even_among_twins():
    rows = tickets(40)
    student, _ = fit([*rows, *rows])
    assert set(novelty(student, [row.input for row in rows])) == {0.0}


def test_saying_it_changes_no_answer_and_a_version_without_it_says_nothing(tmp_path):
    student, _ = fit(tickets(50))
    question = [row.input for row in tickets(5, seed=3)]
    plain = [(one.output, one.p_agree) for one in student.tell(question)]
    assert student.answer(question) == plain
    before = Student(msgspec.structs.replace(student.card, usual=()), student._space, student._alpha)
    assert [(one.output, one.p_agree, one.novelty) for one in before.tell(question)] == [(*one, None) for one in plain]
    student.save(tmp_path)
    assert Student.load(tmp_path, lambda name: pytest.fail(name)).card.usual == student.card.usual


def test_the_embedded_model_passes_it_on_also_through_a_screen():
    student, _ = fit(tickets(50))
    (told,) = student.tell([{"text": "%%%"}])
    assert isinstance(told, Told)
    model = EmbeddedModel()
    model._students["t@v1"] = student
    question = Question(task="t", input={"text": "%%%"})
    for asked in (model, RedactingLocalModel(model, {})):
        answer = asyncio.run(asked.answer(question, "t@v1"))
        assert answer.novelty == told.novelty == 1.0
    asyncio.run(model.aclose())
