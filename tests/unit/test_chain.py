import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apprentice_events.chain import GENESIS, link

text = st.binary(max_size=6)
optional = st.none() | text
number = st.integers(0, 2**62)
fields = st.tuples(number, text, number, text, st.integers(0, 2**31), number, optional, optional, optional, text)

RECORD = (1, b"task", 1, b"tag", 1, 1_700_000_000_000_000_000, None, b"request-1", b"key", b'{"a":1}')


def test_the_digest_of_a_record_is_fixed_forever():
    assert bytes(32) == GENESIS
    assert link(GENESIS, *RECORD).hex() == "294427af1465f6e36c6c4605d3307bc33764808d6b45713f2e84f66052fa1da0"


@pytest.mark.parametrize("index", range(len(RECORD)))
def test_every_field_counts(index):
    changed = list(RECORD)
    value = changed[index]
    changed[index] = b"x" if value is None else value + (1 if isinstance(value, int) else b"x")
    assert link(GENESIS, *changed) != link(GENESIS, *RECORD)


def test_what_went_before_counts():
    assert link(bytes(31) + b"\x01", *RECORD) != link(GENESIS, *RECORD)


def test_absent_and_empty_differ():
    absent, empty = list(RECORD), list(RECORD)
    absent[8], empty[8] = None, b""
    assert link(GENESIS, *absent) != link(GENESIS, *empty)


@given(fields, fields)
def test_two_records_share_a_digest_only_if_they_are_equal(one, other):
    assert (link(GENESIS, *one) == link(GENESIS, *other)) == (one == other)


@given(st.tuples(text, text, text, text, text, text), st.integers(0, 4), st.integers(1, 3))
def test_a_byte_that_moves_to_the_neighbouring_field_is_seen(texts, index, count):
    moved = list(texts)
    moved[index], moved[index + 1] = texts[index] + texts[index + 1][:count], texts[index + 1][count:]

    def digest(stream, tag, causation, correlation, key, payload):
        return link(GENESIS, 1, stream, 1, tag, 1, 1, causation, correlation, key, payload)

    assert (digest(*moved) == digest(*texts)) == (tuple(moved) == texts)


def test_numbers_that_do_not_fit_are_refused():
    with pytest.raises(struct.error):
        link(GENESIS, -1, *RECORD[1:])
