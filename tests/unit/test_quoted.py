"""What is quoted is what is sent, written once and not kept for long."""

import msgspec

from apprentice.remote.quoted import KEPT_MAX, KEPT_MAX_BYTES, QuotedBodies
from apprentice_actors.ports import Question


class Writer:
    def __init__(self) -> None:
        self.written = 0

    def __call__(self, question: Question) -> bytes:
        self.written += 1
        return msgspec.json.encode(question.input)


def asked(value: object) -> Question:
    return Question(task="t", input={"value": value})


def test_a_quoted_question_is_written_once():
    write, question = Writer(), asked(1)
    bodies = QuotedBodies(write)
    quoted = bodies.for_quote(question)
    assert bodies.for_call(question) is quoted
    assert write.written == 1


def test_what_was_quoted_is_sent_even_if_the_input_changed_since():
    bodies, question = QuotedBodies(Writer()), asked(1)
    quoted = bodies.for_quote(question)
    question.input["value"] = 10**9
    assert bodies.for_call(question) == quoted


def test_a_second_call_and_an_equal_question_are_written_anew():
    write, question = Writer(), asked(1)
    bodies = QuotedBodies(write)
    bodies.for_quote(question)
    assert bodies.for_call(asked(1)) == bodies.for_call(question) == bodies.for_call(question)
    assert write.written == 3


def test_long_bodies_and_quotes_long_past_are_not_kept():
    write = Writer()
    bodies = QuotedBodies(write)
    long, first = asked("x" * KEPT_MAX_BYTES), asked(1)
    bodies.for_quote(long)
    bodies.for_call(long)
    assert write.written == 2
    bodies.for_quote(first)
    later = [asked(number) for number in range(KEPT_MAX)]
    for question in later:
        bodies.for_quote(question)
    before = write.written
    bodies.for_call(later[0])
    assert write.written == before
    bodies.for_call(first)
    assert write.written == before + 1
