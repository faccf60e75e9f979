import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apprentice_events import bodies
from apprentice_events.bodies import body_digest, encode_json, make_body

SALT = b"0123456789abcdef"
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


def reversed_keys(value):
    if isinstance(value, dict):
        return {key: reversed_keys(value[key]) for key in reversed(value)}
    return [reversed_keys(item) for item in value] if isinstance(value, list) else value


def test_a_body_stands_under_the_digest_of_salt_and_content():
    body = make_body(b"content", SALT)
    expected = hashlib.sha256(b"\x00" * 7 + b"\x10" + SALT + b"content").hexdigest()
    assert (body.digest, body.salt, body.content) == (expected, SALT, b"content")


def test_the_same_content_under_another_salt_cannot_be_recognised():
    assert make_body(b"yes", SALT).digest != make_body(b"yes", SALT[::-1]).digest


def test_salt_and_content_cannot_trade_bytes():
    assert body_digest(b"bcontent", SALT + b"a") != body_digest(b"content", SALT + b"ab")


def test_short_salts_and_huge_contents_are_refused(monkeypatch):
    with pytest.raises(ValueError, match="has 15 bytes; give at least 16"):
        make_body(b"content", SALT[:15])
    monkeypatch.setattr(bodies, "BODY_BYTES_MAX", 3)
    assert make_body(b"123", SALT).content == b"123"
    with pytest.raises(ValueError, match="4 bytes is over the limit of 3"):
        make_body(b"1234", SALT)


def test_json_is_utf_8_with_sorted_keys_and_no_space():
    assert (
        encode_json({"b": [1, 1.5, None], "a": {"é": True, "c": "x"}})
        == '{"a":{"c":"x","é":true},"b":[1,1.5,null]}'.encode()
    )


@given(json_values)
def test_equal_objects_give_equal_bytes(value):
    assert encode_json(value) == encode_json(reversed_keys(value))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"a": [1, {"b": -float("inf")}]}, (float("nan"),)])
def test_numbers_that_json_does_not_have_are_refused(value):
    with pytest.raises(ValueError, match="NaN and infinity"):
        encode_json(value)


def test_foreign_objects_are_refused():
    with pytest.raises(TypeError):
        encode_json({"a": object()})
