"""The scripted pair: as good as it says, in virtual time."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from apprentice.testing.clock import VirtualClock, virtual_time
from apprentice.testing.models import ScriptedLocalModel, ScriptedTrainer, two_kinds, wrong_answer
from apprentice_actors.ports import Example, Question, TrainingFailure, TrainingJob


def job(home: Path, number: int = 1) -> TrainingJob:
    rows = [Example(request=f"r{at}", input={"n": at}, output={"label": "a"}) for at in range(40)]
    (home / "train.jsonl").write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
    (home / "held-out.jsonl").write_bytes(b"")
    return TrainingJob(
        job=f"job-{number}",
        task="tickets",
        version=f"tickets@v{number}",
        parent=None,
        parent_folder=None,
        folder=str(home / "tickets" / f"v{number}"),
        train_file=str(home / "train.jsonl"),
        calibration_file=str(home / "held-out.jsonl"),
        output_schema=None,
        match_fields=(),
        seed=0,
    )


def nowhere(fraction: float, message: str) -> None:
    """Progress that nobody looks at."""


def truth(question: Question) -> dict[str, Any]:
    return {"label": "ab"[question.input["n"] % 2], "n": question.input["n"]}


async def agreement(clock: VirtualClock, home: Path, outcome: Any, **options: Any) -> tuple[float, float]:
    """Seen agreement and mean ``p_agree`` of a version with the given outcome."""
    trainer = ScriptedTrainer(clock, (outcome,))
    model = ScriptedLocalModel(truth, clock, **options)
    await trainer.train(job(home), nowhere)
    await model.load("tickets@v1", home / "tickets" / "v1")
    schema = {"properties": {"label": {"enum": ["a", "b"]}}}
    questions = [Question(task="tickets", input={"n": n}, output_schema=schema) for n in range(1000)]
    answers = [await model.answer(question, "tickets@v1") for question in questions]
    assert {answer.output["label"] for answer in answers} == {"a", "b"}, "wrong answers keep to the schema"
    agreed = sum(answer.output == truth(question) for answer, question in zip(answers, questions, strict=True))
    return agreed / 1000, sum(answer.p_agree for answer in answers) / 1000


@pytest.mark.parametrize(
    ("outcome", "skill", "claimed"),
    [("perfect", 1.0, 0.999), ("learning", 2 / 3, 2 / 3), ("poisoned", 0.05, 2 / 3)],
)
@virtual_time
async def test_versions_are_as_good_as_scripted(clock, tmp_path, outcome, skill, claimed):
    seen, stated = await agreement(clock, tmp_path, outcome)
    assert seen == pytest.approx(skill, abs=0.04)
    assert stated == pytest.approx(claimed, abs=1e-6)


@virtual_time
async def test_hard_questions_are_known_to_be_hard(clock, tmp_path):
    seen, stated = await agreement(clock, tmp_path, "perfect", accuracy=two_kinds(0.5, easy=0.9, hard=0.3))
    assert seen == pytest.approx(0.6, abs=0.05)
    assert stated == pytest.approx(0.6, abs=0.05)


@virtual_time
async def test_outcomes_follow_their_order_and_take_their_time(clock, tmp_path):
    trainer = ScriptedTrainer(clock, ("failing", "slow"), seconds=2.0)
    with pytest.raises(TrainingFailure, match="scripted to fail"):
        await trainer.train(job(tmp_path, 1), nowhere)
    assert clock.monotonic() == pytest.approx(2.0)
    made = await trainer.train(job(tmp_path, 2), nowhere)
    assert clock.monotonic() == pytest.approx(202.0)
    assert made.seconds == 200.0
    assert [one.version for one in trainer.jobs] == ["tickets@v1", "tickets@v2"]


@pytest.mark.parametrize(
    ("right", "about", "wrong"),
    [
        ({"k": "a"}, {"enum": ["a", "b"]}, {"k": "b"}),
        ({"k": True}, {}, {"k": False}),
        ({"k": 5, "l": 1}, {"maximum": 5}, {"k": 4, "l": 1}),
        ({"k": 5}, {}, {"k": 6}),
        ({"k": "a"}, {}, {"k": "not a"}),
        ({}, {}, {"wrong": True}),
    ],
)
def test_a_wrong_answer_differs_and_keeps_to_the_schema(right, about, wrong):
    assert wrong_answer(right, {"properties": {"k": about}}) == wrong
