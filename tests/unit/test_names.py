"""Names of answers as training rows."""

import pytest

from apprentice.local.heads import plan, targets
from apprentice.local.names import NAMES_MAX, as_inputs, as_targets, names
from apprentice.local.student import Settings, Student, train
from apprentice_actors.ports import Example

LABELS = ("card_arrival", "exchangeRate", "7")


def row(at: int, text: str, label: str, **more: str | int) -> Example:
    return Example(request=f"r{at}", input={"text": text}, output={"label": label, **more})


def test_textual_values_of_choices_have_names_in_words():
    outputs = [{"label": label, "score": score} for label in LABELS for score in (1, 2)]
    heads = plan(outputs, None)
    found = names(heads)
    assert [name.words for name in found] == ["card arrival", "exchange Rate"]
    wanted = targets(heads, outputs)
    for name in found:
        own = {spelled["label"] for spelled, line in zip(outputs, wanted, strict=True) if line[name.column]}
        assert len(own) == 1


def test_a_name_speaks_for_its_value_alone():
    found = names(plan([{"label": "one thing"}, {"label": "another"}], {"properties": {"label": {"enum": []}}}))
    assert as_targets(found, 2).tolist() == [[1.0, 0.0], [0.0, 1.0]]
    assert as_inputs(found) == [{"": "another"}, {"": "one thing"}]


def test_fields_of_too_many_values_go_without():
    schema = {"properties": {"label": {"enum": []}}}
    for count, expected in ((NAMES_MAX, NAMES_MAX), (NAMES_MAX + 1, 0)):
        assert len(names(plan([{"label": f"label {at}"} for at in range(count)], schema))) == expected


def test_an_answer_of_the_schema_that_was_never_seen_is_given_by_its_name(tmp_path):
    schema = {"properties": {"label": {"enum": ["parcel delivery", "password reset", "invoice payment"]}}}
    rows = [row(at, text, "parcel delivery") for at, text in enumerate(["where is my parcel", "the delivery is late"])]
    rows += [row(at + 2, text, "password reset") for at, text in enumerate(["i lost my password", "reset it please"])]
    student, metrics = train(rows, [], schema=schema, match_fields=(), settings=Settings())
    assert student.answer([{"text": "a question about the payment of an invoice"}])[0][0] == {
        "label": "invoice payment"
    }
    assert metrics["rows_train"] == 4, "names are no rows"
    student.save(tmp_path)
    back = Student.load(tmp_path, lambda name: pytest.fail("there is no encoder"))
    for text in ("my password", "an invoice", ""):
        assert back.answer([{"text": text}]) == student.answer([{"text": text}])


def test_copied_fields_and_novelty_come_from_rows_never_from_names():
    rows = [row(at, f"about thing {at}", ("red tea", "green tea")[at % 2], id=f"id-{at}") for at in range(12)]
    student, _ = train(rows, [], schema=None, match_fields=("label",), settings=Settings())
    (told,) = student.tell([{"text": "red tea"}])
    assert told.output["id"].startswith("id-")
    assert told.novelty == 1.0


def test_names_tell_what_rows_that_never_mention_them_cannot():
    topics = ["card_arrival", "exchange_rate", "lost_password", "wrong_invoice", "slow_website", "broken_door"]
    rows = [row(at, f"case {at} of this kind", topic) for at, topic in enumerate(topics)]
    schema = {"properties": {"label": {"enum": topics}}}
    student, _ = train(rows, [], schema=schema, match_fields=(), settings=Settings())
    for topic in topics:
        text = f"my {topic.split('_')[1]}, {topic.split('_')[0]} as it is"
        assert student.answer([{"text": text}])[0][0] == {"label": topic}
