"""From token log-probabilities to a calibrated probability of agreement."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apprentice.local.confidence import Card, Token, fit, signals, value_spans

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def values(text: str, *fields: str) -> list[str]:
    return [text[since:until] for since, until in value_spans(text, fields)]


def answer(value_logprob: float) -> list[Token]:
    return [Token('{"label":"', -0.01), Token("bug", value_logprob), Token('"}', -0.02)]


def test_values_are_found_without_their_quotes():
    text = '{"a": "x y", "b": [1, {"c": true}], "d": ""}'
    assert values(text) == ["x y", "1", "true", '""']
    assert values(text, "b") == ["1", "true"]
    assert values(text, "c") == []  # fields are those at the top


def test_text_before_the_object_is_passed_over_and_no_object_has_no_values():
    assert values('```json\n{"a":1}```') == ["1"]
    for text in ("", "nothing", "{", '{"a"', '{"a":1', "{'a': 1}"):
        assert values(text) == []


@given(st.dictionaries(st.text(max_size=3), JSON, max_size=4), st.booleans())
def test_every_scalar_is_found_once_and_in_order(value, spaced):
    text = json.dumps(value, indent=1 if spaced else None)

    def leaves(inner):
        if isinstance(inner, dict):
            return [leaf for item in inner.values() for leaf in leaves(item)]
        return [leaf for item in inner for leaf in leaves(item)] if isinstance(inner, list) else [inner]

    found = [json.loads(text[a:b] if text[a - 1 : a] != '"' else f'"{text[a:b]}"') for a, b in value_spans(text, ())]
    assert found == leaves(value)


def test_only_the_tokens_of_values_count():
    mean, least, log_mean = signals(
        [Token('{"label":', -5.0), Token('"b', -0.5), Token("ug", -0.1), Token('"}', -7.0)], ()
    )
    assert log_mean == pytest.approx(-0.3)
    assert mean == pytest.approx(math.exp(-0.3))
    assert least == pytest.approx(math.exp(-0.5))


def test_fields_that_do_not_count_do_not_count():
    tokens = [Token('{"a":"', 0.0), Token("x", -9.0), Token('","b":"', 0.0), Token("y", -0.2), Token('"}', 0.0)]
    assert signals(tokens, ("b",))[2] == pytest.approx(-0.2)


def test_an_answer_without_values_is_judged_by_all_its_tokens_and_an_empty_one_is_not_an_error():
    assert signals([Token("{}", -0.7)], ())[2] == pytest.approx(-0.7)
    assert signals([Token("a", -math.inf)], ())[2] == -50.0
    assert all(math.isfinite(one) for one in signals([], ()))


def test_calibration_tells_sure_right_answers_from_unsure_wrong_ones():
    rows = [answer(-0.01 * (at + 1)) for at in range(40)] + [answer(-1.0 - 0.1 * at) for at in range(20)]
    card = fit(rows, [True] * 40 + [False] * 20, ())
    assert card.p_agree(answer(-0.05)) > 0.85
    assert card.p_agree(answer(-2.0)) < 0.2
    assert card.agreement == pytest.approx(2 / 3)


def test_no_row_speaks_for_more_certainty_than_there_are_rows():
    card = fit([answer(-0.01)] * 8, [True] * 8, ())
    assert card.p_agree(answer(-0.001)) <= 9 / 10
    assert fit([], [], ()).p_agree(answer(-0.001)) == 0.5


def test_without_tokens_the_share_of_held_out_rows_speaks():
    card = fit([answer(-0.1)] * 10, [True] * 6 + [False] * 4, ())
    assert card.p_agree(()) == pytest.approx(7 / 12)


def test_a_card_survives_its_file(tmp_path):
    card = fit([answer(-0.1), answer(-1.0)] * 5, [True, False] * 5, ("label",))
    card.save(tmp_path)
    assert Card.load(tmp_path) == card
