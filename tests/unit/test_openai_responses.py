import msgspec
import pytest

from apprentice.remote import Malformed, ResponsesFormat, Secret
from apprentice_actors.ports import Question
from apprentice_events.vocabulary import TokenUsage

WIRE = ResponsesFormat("gpt-5-mini", Secret("sk-unit-test-0123456789"))
USAGE = {"input_tokens": 3, "output_tokens": 4}
SCHEMA = {"type": "object", "properties": {"label": {"type": "string"}}, "required": ["label"]}


def body_of(question: Question) -> dict:
    return msgspec.json.decode(WIRE.encode(question))


def message(*parts: dict) -> dict:
    return {"type": "message", "content": list(parts)}


TEXT = {"type": "output_text", "text": "{}"}


def response(*items: dict, status="completed", **fields) -> bytes:
    given = {"id": "r", "model": "gpt-5-mini", "status": status, "output": list(items), "usage": USAGE, **fields}
    return msgspec.json.encode(given)


def test_a_request_stores_nothing_and_asks_for_the_schema():
    body = body_of(Question(task="t", input={"a": 1}, output_schema=SCHEMA, max_output_tokens=9))
    assert set(body) == {"model", "max_output_tokens", "store", "input", "text"}
    assert (body["store"], body["max_output_tokens"], body["text"]["format"]["strict"]) == (False, 9, True)


def test_without_a_schema_any_object_is_asked_for():
    assert body_of(Question(task="t", input={}))["text"]["format"] == {"type": "json_object"}


def test_reasoning_items_are_not_part_of_the_text():
    thinking = {"type": "reasoning", "content": None, "summary": []}
    parts = [{"type": "output_text", "text": '{"a"'}, {"type": "output_text", "text": ":1}"}]
    assert WIRE.decode(response(thinking, message(*parts))).text == '{"a":1}'


def test_usage_tells_how_long_the_cache_keeps_what_was_written():
    usage = {
        "input_tokens": 100,
        "output_tokens": 20,
        "input_tokens_details": {
            "cached_tokens": 60,
            "cache_write_tokens": 30,
            "cache_write_tokens_details": {"ttl_30m_tokens": 10, "ttl_12h_tokens": 20},
        },
        "output_tokens_details": {"reasoning_tokens": 15},
    }
    read = WIRE.decode(response(message(TEXT), usage=usage))
    assert read.usage == TokenUsage(
        input_tokens=10, output_tokens=20, cache_read_tokens=60, cache_write_tokens=30, reasoning_tokens=15
    )
    assert read.cache_write_1h_tokens == 20


@pytest.mark.parametrize(
    ("status", "reason", "items", "kind"),
    [
        ("completed", None, [message(TEXT)], None),
        ("completed", None, [message({"type": "refusal", "refusal": "No."})], "refusal"),
        ("incomplete", "max_output_tokens", [], "cut_off"),
        ("incomplete", "content_filter", [], "refusal"),
        ("incomplete", "max_messages", [], "invalid"),
        ("failed", None, [], "invalid"),
        ("queued", None, [], "invalid"),
        ("completed", None, [{"type": "function_call", "name": "f", "arguments": "{}"}], None),
        ("completed", None, [{"type": "function_call", "name": "f", "arguments": "no"}], "invalid"),
    ],
)
def test_statuses(status, reason, items, kind):
    failed = WIRE.decode(response(*items, status=status, incomplete_details={"reason": reason})).failed
    assert (failed and failed[0]) == kind


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        response(usage=None),
        response(usage={**USAGE, "input_tokens_details": {"cached_tokens": 4}}),
        response(usage={**USAGE, "input_tokens_details": {"cache_write_tokens_details": {"ttl_12h_tokens": 1}}}),
    ],
)
def test_anything_else_under_200_is_malformed(body):
    with pytest.raises(Malformed):
        WIRE.decode(body)


def test_errors_and_limits_are_those_of_chat_completions():
    body = b'{"error":{"message":"m","type":"insufficient_quota","code":"insufficient_quota"}}'
    assert WIRE.reject(429, body).kind == "spend_limit"
    headers = {f"x-ratelimit-{part}-requests": "1" for part in ("limit", "remaining")}
    assert WIRE.allowances({**headers, "x-ratelimit-reset-requests": "1s"}, 0).keys() == {"requests"}
