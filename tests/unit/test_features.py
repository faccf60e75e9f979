"""Features: what counts as similar, what is cheap, what survives storage."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apprentice.local.features import CHARACTERS_MAX, NgramSpace, hashed_row, render

TEXTS = ["my card has not arrived", "the card did not arrive yet", "how do I top up by bank transfer?", ""]
leaves = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=40))
inputs = st.dictionaries(
    st.text(max_size=8),
    st.recursive(
        leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_size=4,
)


def dense(rows) -> np.ndarray:
    """The kernel by its definition, without an index."""
    vectors = [dict(zip(ids.tolist(), values.tolist(), strict=True)) for ids, values in rows]
    dots = [[sum(value * other.get(key, 0.0) for key, value in one.items()) for other in vectors] for one in vectors]
    return ((0.3 + np.array(dots)) / 1.3) ** 2


def test_similar_texts_are_more_similar():
    space = NgramSpace.build([{"text": text} for text in TEXTS])
    late, top_up = space.kernel([{"text": "My CARD still hasn't arrived"}, {"text": "topping up with a transfer"}])
    assert late[0] > late[1] > late[2]
    assert top_up.argmax() == 2


def test_a_spelling_mistake_costs_little():
    space = NgramSpace.build([{"text": "where is my card"}])
    typo, other = space.kernel([{"text": "where is my crad"}, {"text": "close this account"}])[:, 0]
    assert typo > 0.4 > 0.2 > other


def test_word_order_within_pairs_and_gaps_between_words_matter():
    ids, _ = hashed_row({"text": "ab cd"})
    swapped, _ = hashed_row({"text": "cd ab"})
    assert len(set(ids.tolist()) - set(swapped.tolist())) == 1, "only the word pair differs"


def test_gram_and_kernel_follow_the_definition():
    rows = [{"text": text, "plan": plan} for text in TEXTS for plan in ("free", "pro")]
    space = NgramSpace.build(rows)
    expected = dense([hashed_row(row) for row in rows])
    np.testing.assert_allclose(space.gram(), expected, atol=1e-6)
    np.testing.assert_allclose(space.kernel(rows), expected, atol=1e-6)


def test_storage_keeps_every_similarity():
    rows = [{"text": text} for text in TEXTS]
    space = NgramSpace.build(rows)
    again = NgramSpace.from_tensors(space.tensors(), len(rows))
    np.testing.assert_array_equal(space.kernel(rows), again.kernel(rows))


def test_fields_that_are_not_prose_count_by_name_and_value():
    text, tokens = render(
        {"text": "A long text that is certainly prose.", "meta": {"plan": "Pro", "paid": True}, "n": 123}
    )
    assert text == "pro a long text that is certainly prose."
    assert tokens == ["meta.paid=True", "meta.plan=pro", "n=123", "n~1.2e+02", "n~~1e+02"]


def test_close_numbers_share_a_token():
    space = NgramSpace.build([{"amount": 120}, {"amount": 9000}])
    kernel = space.kernel([{"amount": 123}])[0]
    assert kernel[0] > kernel[1]


def test_a_huge_text_is_cut():
    text, _ = render({"text": "x" * (CHARACTERS_MAX * 3)})
    assert len(text) == CHARACTERS_MAX


@given(inputs)
@settings(max_examples=60, deadline=None)
def test_every_input_has_a_row_of_length_one_or_nothing(value):
    ids, values = hashed_row(value)
    assert (np.diff(ids.astype(np.int64)) > 0).all()
    assert len(ids) == len(values)
    assert np.isfinite(values).all()
    assert not len(values) or values @ values == pytest.approx(1.0)


@given(st.lists(inputs, min_size=1, max_size=4), inputs)
@settings(max_examples=40, deadline=None)
def test_similarities_stay_in_bounds(rows, query):
    space = NgramSpace.build(rows)
    kernel = space.kernel([query, rows[0]])
    assert (kernel >= 0.0).all()
    assert (kernel <= 1.0 + 1e-6).all()
    assert (kernel[1, 0] >= kernel[1] - 1e-6).all(), "nothing is more similar to a row than itself"
