"""Whatever the texts: what was found is gone on the way out, and everything is back on the way in."""

import json

from hypothesis import example, given, settings
from hypothesis import strategies as st

from apprentice.privacy.patterns import BUILT_IN, PatternRecogniser
from apprentice.privacy.redactor import Redactor
from apprentice_events.bodies import encode_json

REDACTOR = Redactor([PatternRecogniser(BUILT_IN, {"ticket": "T[0-9]+", "word": "[xyz]{2}"})])

digits = st.text("0123456789", min_size=1, max_size=6)
emails = st.builds("{}@{}.example".format, st.text("abc.", min_size=1, max_size=4), st.text("abc", min_size=1))
phones = st.integers(10**8, 10**11).map(lambda number: f"+49 {number}")
cards = st.sampled_from(["4111 1111 1111 1111", "5500000000000004"])
ibans = st.sampled_from(["DE89 3704 0044 0532 0130 00", "GB82WEST12345698765432"])
addresses = st.ip_addresses().map(str).filter(lambda text: any(map(str.isdigit, text)))
personal = emails | phones | cards | ibans | addresses
placeholders = st.builds("[{}_{}]".format, st.sampled_from(["EMAIL", "PHONE", "TICKET", "WORD"]), st.integers(0, 4))
pieces = (
    personal | placeholders | digits | st.text(max_size=5) | st.sampled_from(["[", "]", "_1]", "[EMAIL_", "T1", "xy"])
)
texts = st.lists(pieces, max_size=6).map("".join) | st.lists(pieces, max_size=6).map(" ".join)
values = st.recursive(
    texts | st.integers() | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=2), inner, max_size=3),
    max_leaves=6,
)


@given(values)
@example(["[EMAIL_1]a@b.example", "[EMAIL_[EMAIL_1]1]", "T1[TICKET_1]T2"])
@settings(deadline=None)
def test_putting_back_restores_exactly(value):
    names = REDACTOR.begin()
    assert names.restore(names.redact(value)) == value


@given(st.lists(personal, min_size=1, max_size=4), texts)
@settings(deadline=None)
def test_what_is_personal_does_not_get_out(secrets, around):
    value = {"list": secrets, "text": f"{around} {' , '.join(secrets)} {around}"}
    shown = json.dumps(REDACTOR.begin().redact(value), ensure_ascii=False)
    assert [secret for secret in secrets if secret in shown and not around.count(secret)] == []


@given(values)
@settings(deadline=None)
def test_the_same_input_is_always_shown_alike(value):
    first, again = REDACTOR.begin().redact(value), REDACTOR.begin().redact(json.loads(encode_json(value)))
    assert encode_json(first) == encode_json(again)


@given(values)
@settings(deadline=None)
def test_only_texts_change(value):
    def frame(part):
        if isinstance(part, dict):
            return {key: frame(item) for key, item in part.items()}
        return [frame(item) for item in part] if isinstance(part, list) else "" if isinstance(part, str) else part

    assert frame(REDACTOR.begin().redact(value)) == frame(value)


@given(emails, emails, texts)
@settings(deadline=None)
def test_one_value_has_one_placeholder(one, other, around):
    shown = REDACTOR.begin().redact([one, one, other, around])
    assert shown[0] == shown[1]
    assert (shown[0] == shown[2]) == (one == other)
