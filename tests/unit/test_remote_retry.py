from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apprentice.remote.retry import RETRY_AFTER_MAX_S, Backoff, may_retry, retry_after_s

NOW_NS = int(datetime(2026, 11, 20, 12, 0, 0, tzinfo=UTC).timestamp()) * 10**9


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7),
        ({"retry-after": "0.25"}, 0.25),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9),
        ({"retry-after": "Fri, 20 Nov 2026 12:00:30 GMT"}, 30),
        ({"retry-after": "Fri, 20 Nov 2026 11:00:00 GMT"}, 0),
        ({"retry-after": "-5"}, 0),
        ({"retry-after": "1e300"}, RETRY_AFTER_MAX_S),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "after lunch"}, None),
        ({"retry-after": ""}, None),
        ({}, None),
    ],
)
def test_the_pause_that_a_response_asks_for(headers, seconds):
    assert retry_after_s(headers, NOW_NS) == seconds


@given(st.integers(1, 2_000), st.floats(0, 1, exclude_max=True))
def test_a_pause_is_jittered_below_a_growing_ceiling(attempt, draw):
    pause = Backoff(first_s=0.5, max_s=16).pause_s(attempt, draw)
    assert 0 <= pause <= min(16, 0.5 * 2.0 ** min(attempt - 1, 10))


def test_the_jitter_is_full():
    backoff = Backoff(first_s=0.5, max_s=16)
    assert backoff.pause_s(3, 0.0) == 0
    assert backoff.pause_s(3, 0.5) == 1
    assert backoff.pause_s(20, 0.5) == 8


def test_a_named_pause_is_never_shortened():
    assert Backoff().pause_s(1, 0.0, 10.0) == 10
    assert Backoff().pause_s(1, 0.5, 10.0) == 10.5


@pytest.mark.parametrize(
    ("status", "header", "default", "expected"),
    [
        (500, None, True, True),
        (500, "false", True, False),
        (425, "true", False, True),
        (425, None, False, False),
        (400, "true", False, False),
        (401, "true", True, False),
        (500, "perhaps", True, True),
    ],
)
def test_the_server_has_the_word_except_where_no_retry_can_help(status, header, default, expected):
    headers = {} if header is None else {"x-should-retry": header}
    assert may_retry(status, headers, default) is expected
