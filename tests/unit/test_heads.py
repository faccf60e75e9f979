"""Heads and the student: fitting answers, the schema, and honest confidence."""

import json
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apprentice.local.calibration import Calibrator, calibration_error
from apprentice.local.features import NgramSpace
from apprentice.local.heads import Tolerance, answers, plan, targets
from apprentice.local.student import Settings, Student, _solve, train
from apprentice_actors.ports import Example

WORDS = {
    "billing": ["invoice", "refund", "charge"],
    "bug": ["crash", "error", "freeze"],
    "praise": ["great", "love", "nice"],
}
FILLER = ["the", "app", "today", "please", "since", "update", "my", "phone", "team", "again"]


def ticket(chance: random.Random, at: int, noise: float = 0.0, kinds=tuple(WORDS)) -> Example:
    kind = chance.choice(kinds)
    said = [chance.choice(WORDS[kind]), *chance.sample(FILLER, 4)]
    chance.shuffle(said)
    label = chance.choice(kinds) if chance.random() < noise else kind
    output = {"category": label, "urgent": label == "bug", "priority": 1 + len(label) % 3}
    return Example(request=f"r{at}", input={"text": " ".join(said)}, output=output)


def tickets(count: int, seed: int = 0, **options) -> list[Example]:
    chance = random.Random(seed)
    return [ticket(chance, at, **options) for at in range(count)]


def fit(rows, held_out=(), **options):
    defaults = {"schema": None, "match_fields": (), "settings": Settings()}
    return train(rows, list(held_out), **{**defaults, **options})


def asked(student: Student, rows) -> tuple[np.ndarray, np.ndarray]:
    given_answers = student.answer([row.input for row in rows])
    agreed = np.array([output == row.output for (output, _), row in zip(given_answers, rows, strict=True)])
    return np.array([p for _, p in given_answers]), agreed


def test_a_learnable_task_is_learned_and_known_to_be():
    student, metrics = fit(tickets(160), tickets(40, seed=1))
    p_agree, agreed = asked(student, tickets(200, seed=2))
    assert agreed.mean() > 0.98
    assert np.median(p_agree) >= 0.95
    assert p_agree.max() < 1.0
    assert metrics["agreement_holdout"] > 0.98


def test_noise_in_the_answers_shows_in_the_confidence():
    student, _ = fit(tickets(300, noise=0.45), tickets(75, seed=1, noise=0.45))
    p_agree, agreed = asked(student, tickets(400, seed=2, noise=0.45))
    assert abs(p_agree.mean() - agreed.mean()) < 0.08
    assert calibration_error(p_agree, agreed) < 0.12


@pytest.mark.parametrize("held_out", [0, 1, 10, 200])
def test_any_number_of_held_out_rows_gives_sane_probabilities(held_out):
    student, metrics = fit(tickets(40), tickets(held_out, seed=1))
    p_agree, _ = asked(student, tickets(50, seed=2))
    assert (p_agree > 0.0).all()
    assert (p_agree < 1.0).all()
    assert metrics["rows_holdout"] == held_out
    assert ("agreement_holdout" in metrics) == (held_out > 0)


def test_few_rows_cannot_speak_for_certainty():
    same = [Example(request=str(at), input={"text": f"hello {at}"}, output={"a": 1}) for at in range(3)]
    student, _ = fit(same)
    ((output, p_agree),) = student.answer([{"text": "hello 9"}])
    assert output == {"a": 1}
    assert p_agree <= 4 / 5


def test_one_value_so_far_is_answered_with_growing_confidence():
    few, many = (fit(tickets(count, kinds=("bug",)))[0] for count in (5, 100))
    question = [{"text": "crash today my phone"}]
    ((output, low),), ((_, high),) = few.answer(question), many.answer(question)
    assert output["category"] == "bug"
    assert low < high
    assert high >= 0.95


def test_strangers_are_doubted_even_by_a_perfect_student():
    student, _ = fit(tickets(100), tickets(25, seed=1))
    (_, usual), (_, strange) = student.answer([tickets(1, seed=3)[0].input, {"text": "%%%"}])
    assert strange < 0.6 < usual


def test_a_held_out_value_that_training_never_saw_counts_as_wrong():
    rows = tickets(60, kinds=("bug",))
    _, metrics = fit(rows, tickets(30, seed=1, kinds=("praise",)))
    assert metrics["agreement_holdout"] == 0.0


def test_a_held_out_field_that_training_never_saw_counts_as_wrong():
    extra = [Example(request="h", input={"text": "crash"}, output={**tickets(1)[0].output, "new": 1})]
    _, metrics = fit(tickets(60), extra)
    assert metrics["agreement_holdout"] == 0.0


def test_only_matched_fields_count():
    chance = random.Random(5)
    rows = [
        Example(request=row.request, input=row.input, output={**row.output, "id": chance.random()})
        for row in tickets(80)
    ]
    everything, _ = fit(rows)
    matched, _ = fit(rows, match_fields=("category",))
    question = [tickets(1, seed=3)[0].input]
    assert everything.answer(question)[0][1] < 0.3
    assert matched.answer(question)[0][1] > 0.9


def test_rare_values_are_not_drowned():
    rows = tickets(190, kinds=("bug",)) + [
        Example(request=f"p{at}", input={"text": f"love great nice {at}"}, output={"category": "praise"})
        for at in range(6)
    ]
    student, _ = fit(
        [Example(request=r.request, input=r.input, output={"category": r.output["category"]}) for r in rows]
    )
    assert student.answer([{"text": "love it, great, nice"}])[0][0] == {"category": "praise"}


def test_leave_one_out_scores_equal_refitting_without_the_row():
    rows = tickets(25)
    heads = plan([row.output for row in rows], None)
    wanted, weights = targets(heads, [row.output for row in rows]), np.linspace(0.5, 2.0, len(rows))
    gram = NgramSpace.build([row.input for row in rows]).gram()
    _, left_out = _solve(gram, wanted, weights)
    for at in (0, 7, 24):
        rest = np.arange(len(rows)) != at
        alpha, _ = _solve(gram[np.ix_(rest, rest)], wanted[rest], weights[rest])
        np.testing.assert_allclose(gram[at, rest] @ alpha, left_out[at], atol=1e-8)


def test_a_heavier_row_wins_a_contradiction():
    same = {"text": "charge on my card"}
    rows = [Example(request=f"{at}", input=same, output={"k": "a"}) for at in range(3)]
    rows.append(Example(request="c", input=same, output={"k": "b"}, weight=10.0, source="correction"))
    student, _ = fit(rows, schema={"properties": {"k": {"enum": ["a", "b"]}}})
    assert student.answer([same])[0][0] == {"k": "b"}


def test_kinds_follow_schema_and_values():
    outputs = [
        {"label": "ab"[at % 2], "ok": True, "price": at * 1.5, "note": f"text {at}", "n": at % 3} for at in range(40)
    ]
    schema = {"properties": {"n": {"type": "integer"}, "label": {"enum": ["a", "b", "c"]}, "price": {"type": "number"}}}
    heads = plan(outputs, schema)
    assert [(head.field, head.kind) for head in heads] == [
        ("n", "choice"),
        ("label", "choice"),
        ("price", "number"),
        ("ok", "choice"),
        ("note", "copy"),
    ]


def test_many_numbers_are_a_choice_where_each_comes_often():
    (often,) = plan([{"n": at % 30} for at in range(300)], None)
    (rarely,) = plan([{"n": at % 30} for at in range(90)], None)
    assert (often.kind, rarely.kind) == ("choice", "number")


def test_numbers_are_learned_from_numbers():
    rows = [
        Example(request=str(at), input={"size": at, "unit": "cm"}, output={"x": at * 2.0}) for at in range(0, 300, 3)
    ]
    student, _ = fit(rows, settings=Settings(numeric_tolerance={"x": 60.0}))
    ((output, p_agree),) = student.answer([{"size": 151, "unit": "cm"}])
    assert output["x"] == pytest.approx(302, abs=60)
    assert p_agree > 0.5


def test_numbers_follow_type_and_limits():
    outputs = [{"n": at, "x": at + 0.5} for at in range(60)]
    schema = {"properties": {"n": {"type": "integer", "minimum": 3, "maximum": 50}, "x": {"type": "number"}}}
    heads = plan(outputs, schema)
    low, high = answers(heads, np.array([[-99.0, -99.0], [99.0, 99.0]]), np.zeros(2, np.int64))
    assert (low["n"], high["n"]) == (3, 50)
    assert isinstance(low["n"], int)
    assert (low["x"], high["x"]) == (0.5, 59.5)


def test_a_field_may_be_absent_and_stays_so():
    rows = [
        Example(
            request=str(at),
            input={"text": f"{'code' if at % 2 else 'plain'} {at}"},
            output={"k": 1, **({"e": 7} if at % 2 else {})},
        )
        for at in range(40)
    ]
    student, _ = fit(rows)
    (plain, _), (code, _) = student.answer([{"text": "plain 99"}, {"text": "code 99"}])
    assert plain == {"k": 1}
    assert code == {"k": 1, "e": 7}


def test_numbers_within_the_tolerance_agree():
    tolerance = Tolerance({"price": 0.5, "*": 0.0})
    assert tolerance.agrees("price", {"price": 1.0}, {"price": 1.5})
    assert not tolerance.agrees("price", {"price": 1.0}, {"price": 1.6})
    assert tolerance.agrees("n", {"n": 1}, {"n": 1.0})
    assert not tolerance.agrees("n", {"n": 1}, {"n": True})
    assert not tolerance.agrees("n", {"n": 1}, {})
    assert tolerance.agrees("n", {}, {})


def test_the_cap_on_rows_keeps_fresh_ones_then_the_newest():
    rows = [
        Example(request=str(at), input={"t": f"w{at}"}, output={"k": f"answer {at}"}, fresh=at in (1, 2))
        for at in range(6)
    ]
    student, metrics = fit(rows, settings=Settings(rows_max=4))
    assert metrics["rows_train"] == 4
    kept = {output["k"] for output, _ in student.answer([row.input for row in rows])}
    assert kept == {f"answer {at}" for at in (1, 2, 4, 5)}


@pytest.mark.parametrize(
    ("value", "output"), [({}, {"k": 1}), ({"t": "hello"}, {}), ({}, {}), ({"t": ""}, {"k": None})]
)
def test_empty_inputs_and_answers_survive_storage(tmp_path, value, output):
    student, _ = fit([Example(request=str(at), input=value, output=output) for at in range(12)])
    student.save(tmp_path)
    again = Student.load(tmp_path, lambda name: pytest.fail(name))
    assert again.answer([value, {"other": "words"}]) == student.answer([value, {"other": "words"}])
    assert again.answer([value])[0][0] == output


def test_no_rows_is_an_error_that_says_what_to_do():
    with pytest.raises(ValueError, match="collect examples first"):
        fit([])


def test_a_saved_student_answers_the_same_and_the_same_data_give_the_same_bytes(tmp_path):
    rows, held_out = tickets(60), tickets(15, seed=1)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        student, _ = fit(rows, held_out)
        student.save(tmp_path / name)
    files = [sorted((path.name, path.read_bytes()) for path in (tmp_path / name).iterdir()) for name in ("a", "b")]
    assert files[0] == files[1]
    questions = [row.input for row in tickets(10, seed=2)]
    assert Student.load(tmp_path / "a", lambda name: pytest.fail(name)).answer(questions) == student.answer(questions)


@given(st.integers(2, 60), st.floats(0.0, 1.0), st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_calibrated_probabilities_stay_between_the_honest_limits(count, rate, seed):
    chance = np.random.default_rng(seed)
    observed, agreed = chance.random((count, 5)), chance.random(count) < rate
    p_agree = Calibrator.fit(observed, agreed).probability(np.vstack([observed, np.zeros(5), np.full(5, 1e6)]))
    assert (p_agree >= 1 / (count + 2) - 1e-12).all()
    assert (p_agree <= (count + 1) / (count + 2) + 1e-12).all()


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from("abc"),
            st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3) | st.lists(st.integers(), max_size=2),
            min_size=1,
        ),
        min_size=1,
        max_size=8,
    )
)
@settings(max_examples=50, deadline=None)
def test_any_outputs_can_be_learned_and_answers_are_json(outputs):
    rows = [Example(request=str(at), input={"t": f"word{at}"}, output=output) for at, output in enumerate(outputs)]
    student, _ = fit(rows)
    for output, p_agree in student.answer([row.input for row in rows] + [{}]):
        json.dumps(output, allow_nan=False)
        assert set(output) <= {"a", "b", "c"}
        assert 0.0 < p_agree < 1.0


# ---------------------------------------------------------------- calibration in two steps


def test_a_correction_keeps_the_order_and_mends_the_level():
    chance = np.random.default_rng(1)
    signal = chance.normal(size=(600, 1))
    fitted = Calibrator.fit(signal, chance.random(600) < 1 / (1 + np.exp(-3 * signal[:, 0] - 2)))
    fresh = chance.normal(size=(400, 1))
    truth = 1 / (1 + np.exp(-signal_of(fresh)))
    agreed = chance.random(400) < truth
    mended = fitted.corrected(fresh, agreed)
    before, after = fitted.probability(fresh), mended.probability(fresh)
    assert np.diff(after[np.argsort(fresh[:, 0])]).min() >= 0.0
    assert calibration_error(after, agreed) < 0.06 < calibration_error(before, agreed)
    assert mended.rows == 400


def signal_of(rows):
    """The log odds that the corrected rows really have: flatter and lower."""
    return 1.2 * rows[:, 0] - 0.5
