"""Personal data stay in: found by form, replaced on the way out, put back on the way in, and never half of it."""

import socket
from types import SimpleNamespace

import pytest

from apprentice.config.privacy import FLOOR, PrivacyConfig
from apprentice.config.types import Findings
from apprentice.errors import InvalidConfig, RemoteRefused
from apprentice.privacy.build import make_redactor
from apprentice.privacy.models import RedactingLocalModel, RedactingModel, redact_rows
from apprentice.privacy.patterns import BUILT_IN, iban_holds, luhn
from apprentice.privacy.redactor import Redactor
from apprentice.privacy.spans import RedactionFailed, Span, merged
from apprentice.testing.world import Options, simulate
from apprentice_actors.ports import (
    Example,
    LocalAnswer,
    LocalFailure,
    Question,
    RemoteAnswer,
    RemoteFailure,
    TrainingFailure,
)
from apprentice_events.vocabulary import TokenUsage

REGEX = make_redactor(PrivacyConfig(redact="regex", patterns={"customer": "C-[0-9]{6}"}))
REPLY = {"privacy": {"redact": "regex"}, "output_schema": {"reply": "str"}, "match_fields": ["reply"]}


def redacted(text):
    return REGEX.begin().redact(text)


class Broken:
    def spans(self, text):
        raise ValueError(f"cannot read {text}")


BROKEN = Redactor([Broken()])

# ---------------------------------------------------------------- what is found


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("ada.lovelace+news@mail.example.co.uk", "EMAIL"),
        ("ÄDA@bücher.example", "EMAIL"),
        ("+49 (0)30 / 90 18 20", "PHONE"),
        ("+1-555-123-4567", "PHONE"),
        ("0044 20 7946 0958", "PHONE"),
        ("(555) 123-4567", "PHONE"),
        ("030 901820", "PHONE"),
        ("4111 1111 1111 1111", "CREDIT_CARD"),
        ("378282246310005", "CREDIT_CARD"),
        ("5500-0000-0000-0004", "CREDIT_CARD"),
        ("DE89 3704 0044 0532 0130 00", "IBAN"),
        ("gb82west12345698765432", "IBAN"),
        ("10.20.30.255", "IP_ADDRESS"),
        ("2001:db8::ff00:42:8329", "IP_ADDRESS"),
        ("fe80::1", "IP_ADDRESS"),
        ("123-45-6789", "US_SSN"),
        ("C-123456", "CUSTOMER"),
    ],
)
@pytest.mark.parametrize("around", ["{}", "see {} there", "({}),", "is {}.", "{}; and 7 more"])
def test_each_kind_is_found_wherever_it_stands(text, kind, around):
    assert redacted(around.format(text)) == around.format(f"[{kind}_1]")


@pytest.mark.parametrize(
    "text",
    [
        "4111 1111 1111 1112",  # the check digit is wrong
        "DE89370400440532013001",
        "000-12-3456 and 123-00-4567 and 900-12-3456",
        "on 01-02-2024, or 2024-01-02T03:04:05, at 12:30:45",
        "version 1.2.3, 300.1.1.1, std::cout, a::b",
        "ask @ada, or write to ada@localhost",
        "1,000,000 of 12345",
        "",
    ],
)
def test_what_only_looks_alike_stays(text):
    assert redacted(text) == text


def test_a_card_beside_other_numbers_is_found():
    assert redacted("42 4111 1111 1111 1111 7") == "42 [CREDIT_CARD_1] 7"


@pytest.mark.parametrize(("digits", "holds"), [("79927398713", True), ("79927398710", False), ("0", True)])
def test_luhn(digits, holds):
    assert luhn(digits) is holds


def test_iban_check_needs_every_character():
    assert iban_holds("GB82WEST12345698765432")
    assert not iban_holds("GB82WEST12345698765423")


def test_findings_that_overlap_become_one():
    spans = [Span(5, 9, "B"), Span(0, 6, "A"), Span(9, 12, "C"), Span(3, 3, "D"), Span(8, 9, "E")]
    assert merged(spans) == [Span(0, 9, "A"), Span(9, 12, "C")]


@pytest.mark.parametrize("text", ["a" * 50_000, "1 " * 30_000, "a@" * 20_000, "::1" * 15_000, "+1" * 30_000])
def test_long_texts_take_no_time_to_speak_of(text):
    redacted(text)  # an expression that backtracks without bound would not return


# ---------------------------------------------------------------- placeholders


def test_nested_texts_are_changed_keys_and_numbers_are_not():
    given = {"ada@x.example": ["write ada@x.example", {"to": "bob@x.example", "n": 4111111111111111, "ok": None}]}
    names = REGEX.begin()
    shown = names.redact(given)
    assert shown == {"ada@x.example": ["write [EMAIL_1]", {"to": "[EMAIL_2]", "n": 4111111111111111, "ok": None}]}
    assert names.restore(shown) == given
    assert names.restore({"sum": ["[EMAIL_2] and [EMAIL_1], not [EMAIL_3]"]}) == {
        "sum": ["bob@x.example and ada@x.example, not [EMAIL_3]"]
    }


def test_the_order_of_keys_does_not_matter():
    a, b = "ada@x.example", "bob@x.example"
    assert REGEX.begin().redact({"a": a, "b": b}) == REGEX.begin().redact({"b": b, "a": a})


def test_a_placeholder_that_the_caller_wrote_is_left_alone():
    names = REGEX.begin()
    shown = names.redact({"a": "[EMAIL_1] is not ada@x.example"})
    assert shown == {"a": "[EMAIL_1] is not [EMAIL_2]"}
    assert names.restore(shown) == {"a": "[EMAIL_1] is not ada@x.example"}


def test_a_value_found_once_is_replaced_everywhere():
    shown = REGEX.begin().redact({"a": "ada@x.example", "b": "xyzada@x.examplexyz and zada@x.example"})
    assert "ada@x.example" not in str(shown)


def test_the_content_of_files_stays_whole():
    image = "data:image/png;base64,AAAA+12345678901234/"
    given = {"a": image, "b": {"media_type": "image/png", "data": "+12345678901234"}}
    assert REGEX.begin().redact(given) == given


def test_a_recogniser_that_fails_stops_everything_and_says_nothing_of_the_text():
    with pytest.raises(RedactionFailed, match="Broken failed on a text of 6 characters") as caught:
        BROKEN.begin().redact(["secret"])
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


# ---------------------------------------------------------------- configuration


def test_kinds_of_the_configuration_are_those_that_exist():
    assert FLOOR == BUILT_IN


@pytest.mark.parametrize(
    ("section", "problem"),
    [
        ({"entities": ["email"]}, "redact is off"),
        ({"redact": "regex", "entities": ["emial"]}, "email"),
        ({"redact": "regex", "model": "./x"}, "not read by regex"),
        ({"redact": "regex", "patterns": {"a": "("}}, "not a regular expression"),
        ({"redact": "regex", "patterns": {"a": "x*"}}, "matches nothing"),
        ({"redact": "regex", "patterns": {"A b": "x"}}, "no name"),
        ({"redact": "regex", "patterns": {"iban": "x"}}, "built in"),
        ({"redact": "presidio", "entities": ["person"]}, "language model"),
    ],
)
def test_what_cannot_be_meant_is_refused(section, problem):
    with pytest.raises(ValueError, match=problem) as caught:
        PrivacyConfig.model_validate(section)
    assert isinstance(caught.value.errors()[0]["ctx"]["error"], Findings)


def test_only_the_chosen_kinds_are_replaced():
    redactor = make_redactor(PrivacyConfig(redact="regex", entities=("email",)))
    assert redactor.begin().redact("a@x.example 10.0.0.1") == "[EMAIL_1] 10.0.0.1"


# ---------------------------------------------------------------- models behind the screen


class Echo:
    """A model of either kind that gives back what it was shown."""

    provider, model = "fake", "echo"

    def __init__(self):
        self.seen = []

    def quote_nd(self, question):
        return len(str(question.input))

    async def answer(self, question, version=None, *, timeout_s=1.0):
        self.seen.append(question)
        if version is not None:
            return LocalAnswer(output={"said": question.input}, p_agree=0.5, latency_ms=1.0)
        return RemoteAnswer(
            output={"said": question.input}, model="echo", usage=TokenUsage(), cost_nd=1, latency_ms=1.0
        )


ASKED = Question(
    task="t", input={"text": "I am ada@x.example"}, examples=(({"text": "bob@x.example"}, {"to": "ada@x.example"}),)
)


async def test_student_and_teacher_see_placeholders_and_callers_do_not():
    echo = Echo()
    remote, local = RedactingModel(echo, {"t": REGEX}), RedactingLocalModel(echo, {"t": REGEX})
    answers = [await remote.answer(ASKED, timeout_s=1.0), await local.answer(ASKED, "t@v1")]
    for seen, answer in zip(echo.seen, answers, strict=True):
        assert seen.input == {"text": "I am [EMAIL_1]"}
        assert seen.examples == (({"text": "[EMAIL_2]"}, {"to": "[EMAIL_1]"}),)
        assert answer.output == {"said": ASKED.input}
    assert remote.quote_nd(ASKED) == len(str({"text": "I am [EMAIL_1]"}))
    assert (remote.provider, remote.model) == ("fake", "echo")


async def test_other_tasks_pass_as_they_are():
    echo = Echo()
    await RedactingModel(echo, {"u": BROKEN}).answer(ASKED, timeout_s=1.0)
    await RedactingLocalModel(echo, {"u": BROKEN}).answer(ASKED, "t@v1")
    assert echo.seen == [ASKED, ASKED]
    row = Example(request="r", input=ASKED.input, output={})
    assert redact_rows({"u": BROKEN})("t", row) is row


async def test_where_redaction_fails_nothing_is_asked_and_nothing_learned():
    echo = Echo()
    remote = RedactingModel(echo, {"t": BROKEN})
    assert remote.quote_nd(ASKED) == echo.quote_nd(ASKED)
    with pytest.raises(RemoteFailure) as refused:
        await remote.answer(ASKED, timeout_s=1.0)
    with pytest.raises(LocalFailure) as failed:
        await RedactingLocalModel(echo, {"t": BROKEN}).answer(ASKED, "t@v1")
    with pytest.raises(TrainingFailure) as untrained:
        redact_rows({"t": BROKEN})("t", Example(request="r", input=ASKED.input, output={}))
    assert echo.seen == []
    assert (refused.value.kind, refused.value.cost_nd) == ("bad_request", 0)
    assert not any("ada" in str(error.value) for error in (refused, failed, untrained))


def test_rows_keep_their_placeholders_on_both_sides():
    row = Example(request="r", input={"text": "ada@x.example"}, output={"to": "ada@x.example", "cc": "bob@x.example"})
    done = redact_rows({"t": REGEX})("t", row)
    assert (done.input, done.output) == ({"text": "[EMAIL_1]"}, {"to": "[EMAIL_1]", "cc": "[EMAIL_2]"})


# ---------------------------------------------------------------- a whole runtime


def echoing(given):
    return {"reply": f"to {given['text']}"}


def test_nothing_personal_leaves_and_everything_comes_back():
    async def program(world):
        world.teaches = echoing
        async with world.open() as runtime:
            for index in range(90):
                result = await runtime.submit("task_0", {"text": f"ada{index % 30}@x.example {index % 5}"})
                assert result.output == {"reply": f"to ada{index % 30}@x.example {index % 5}"}
            await runtime.settled()
        seen = [call.input["text"] for call in world.frontier.calls]
        assert all(text.startswith("[EMAIL_1] ") for text in seen)
        return world.trainer.datasets

    (train, held_out), *_ = simulate(program, Options(task=REPLY))
    shown = [(row.input["text"], row.output["reply"]) for row in (*train, *held_out)]
    assert sorted(shown) == [(f"[EMAIL_1] {n}", f"to [EMAIL_1] {n}") for n in range(5)]  # no text on both sides
    assert train


def test_a_redactor_that_fails_costs_nothing(monkeypatch):
    monkeypatch.setattr("apprentice.privacy.build.make_redactor", lambda privacy: BROKEN)

    async def program(world):
        async with world.open() as runtime:
            with pytest.raises(RemoteRefused, match="was not sent") as caught:
                await runtime.submit("task_0", {"text": "ada@x.example"})
            assert "ada" not in str(caught.value)
            await runtime.settled()
            assert runtime.report().money.spent == "0.00"
        assert world.frontier.calls == []

    simulate(program, Options(task=REPLY))


# ---------------------------------------------------------------- presidio


@pytest.fixture
def offline(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("the network was asked for")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    """A spaCy pipeline that knows one person, made here."""
    pytest.importorskip("presidio_analyzer")
    spacy = pytest.importorskip("spacy")
    made = spacy.blank("en")
    made.add_pipe("entity_ruler").add_patterns([{"label": "PERSON", "pattern": "Ada Lovelace"}])
    folder = tmp_path_factory.mktemp("pipeline")
    made.to_disk(folder)
    return str(folder)


@pytest.mark.heavy
def test_presidio_adds_to_the_floor_without_the_network(offline, pipeline):
    redactor = make_redactor(PrivacyConfig(redact="presidio", model=pipeline))
    text = "Ada Lovelace, ada@x.example, 4111 1111 1111 1111, C 12"
    assert redactor.begin().redact(text) == "[PERSON_1], [EMAIL_1], [CREDIT_CARD_1], C 12"


@pytest.mark.heavy
def test_presidio_without_a_model_finds_what_has_a_form(offline, pipeline):
    redactor = make_redactor(PrivacyConfig(redact="presidio", entities=("email", "crypto")))
    text = "Ada Lovelace pays 16Yeky6GMjeNkAiNcBY7ZhrLoMSgg1BoyZ to ada@x.example at 10.0.0.1"
    assert redactor.begin().redact(text) == "Ada Lovelace pays [CRYPTO_1] to [EMAIL_1] at 10.0.0.1"


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("section", "problem"),
    [({"entities": ("persn",)}, "does not find `persn`"), ({"model": "./nowhere"}, "no folder or installed package")],
)
def test_what_presidio_does_not_have_is_told(pipeline, section, problem):
    with pytest.raises(InvalidConfig, match=problem):
        make_redactor(PrivacyConfig(redact="presidio", **section))


def test_presidio_that_is_not_installed_names_its_extra(monkeypatch):
    from apprentice.errors import MissingExtra

    monkeypatch.setattr("apprentice.privacy.presidio.importlib", SimpleNamespace(util=SimpleNamespace(find_spec=id)))
    monkeypatch.setattr("apprentice.privacy.presidio.importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"apprentice\[privacy\]"):
        make_redactor(PrivacyConfig(redact="presidio"))
