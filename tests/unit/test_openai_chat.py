import msgspec
import pytest

from apprentice.remote import ChatFormat, Malformed, Secret
from apprentice.remote.limits import Allowance
from apprentice.remote.openai_api import Server, duration_s
from apprentice.remote.openai_chat import COMPATIBLE
from apprentice_actors.ports import Question
from apprentice_events.vocabulary import TokenUsage

KEY = Secret("sk-unit-test-0123456789")
SCHEMA = {"type": "object", "properties": {"label": {"type": "string", "maxLength": 5}}, "required": ["label"]}
QUESTION = Question(task="sort: mail", input={"text": "hello"}, output_schema=SCHEMA, max_output_tokens=100)
WIRE = ChatFormat("gpt-5-mini", KEY)
STATED = ChatFormat("m", KEY, Server(provider="openrouter", path="/x", states_cost=True))
USAGE = {"prompt_tokens": 3, "completion_tokens": 4}


def body_of(question: Question, wire: ChatFormat = WIRE) -> dict:
    return msgspec.json.decode(wire.encode(question))


def completion(*, usage=USAGE, finish_reason="stop", **message) -> bytes:
    choice = {"message": {"content": "{}", **message}, "finish_reason": finish_reason}
    return msgspec.json.encode({"id": "c", "model": "gpt-5-mini", "choices": [choice], "usage": usage})


def test_a_request_carries_a_strict_schema_and_nothing_that_was_not_chosen():
    body = body_of(QUESTION)
    assert set(body) == {"model", "max_completion_tokens", "messages", "response_format"}
    wanted = body["response_format"]["json_schema"]
    assert (wanted["name"], wanted["strict"], wanted["schema"]["additionalProperties"]) == ("sort__mail", True, False)
    assert [message["role"] for message in body["messages"]] == ["system", "user"]


def test_what_is_chosen_is_sent():
    body = body_of(QUESTION, ChatFormat("m", KEY, temperature=0.0, service_tier="flex"))
    assert (body["temperature"], body["service_tier"]) == (0.0, "flex")


def test_a_schema_that_cannot_be_enforced_becomes_json_mode_where_the_server_has_it():
    free = msgspec.structs.replace(QUESTION, output_schema={"type": "object"})
    assert body_of(free)["response_format"] == {"type": "json_object"}
    compatible = body_of(free, ChatFormat("m", None, COMPATIBLE))
    assert "response_format" not in compatible
    assert compatible["max_tokens"] == 100


def test_a_server_of_ones_own_may_go_without_a_key():
    assert "authorization" not in ChatFormat("m", None, COMPATIBLE).headers()
    assert WIRE.headers()["authorization"] == f"Bearer {KEY.reveal()}"


def test_the_prompt_includes_what_the_cache_read_and_wrote():
    usage = {
        "prompt_tokens": 100,
        "completion_tokens": 20,
        "total_tokens": 120,
        "prompt_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 30},
        "completion_tokens_details": {"reasoning_tokens": 15},
    }
    assert WIRE.decode(completion(usage=usage)).usage == TokenUsage(
        input_tokens=10, output_tokens=20, cache_read_tokens=60, cache_write_tokens=30, reasoning_tokens=15
    )


def test_reasoning_that_was_left_out_of_the_completion_is_found_in_the_total():
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 115}
    assert WIRE.decode(completion(usage=usage)).usage.output_tokens == 105


def test_null_details_are_none_at_all():
    usage = {**USAGE, "prompt_tokens_details": None, "completion_tokens_details": None}
    assert WIRE.decode(completion(usage=usage)).usage == TokenUsage(input_tokens=3, output_tokens=4)


@pytest.mark.parametrize(
    ("finish_reason", "message", "kind"),
    [
        ("stop", {}, None),
        (None, {}, None),
        ("stop", {"content": None, "refusal": "No."}, "refusal"),
        ("length", {}, "cut_off"),
        ("content_filter", {"content": None}, "refusal"),
        ("tool_calls", {}, "invalid"),
        ("error", {}, "invalid"),
        ("tool_calls", {"tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}, None),
        ("tool_calls", {"tool_calls": [{"function": {"name": "f", "arguments": '{"a":'}}]}, "invalid"),
        ("stop", {"tool_calls": [{"function": {"name": "f", "arguments": "[]"}}]}, "invalid"),
    ],
)
def test_finish_reasons(finish_reason, message, kind):
    failed = WIRE.decode(completion(finish_reason=finish_reason, **message)).failed
    assert (failed and failed[0]) == kind


def test_no_choice_is_billed_and_no_answer():
    read = WIRE.decode(msgspec.json.encode({"model": "m", "choices": [], "usage": USAGE}))
    assert (read.failed[0], read.usage.output_tokens) == ("invalid", 4)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"error":{"code":502,"message":"upstream"}}',
        completion(usage=None),
        completion(usage={"prompt_tokens": -1, "completion_tokens": 0}),
        completion(usage={**USAGE, "prompt_tokens_details": {"cached_tokens": 4}}),
    ],
)
def test_anything_else_under_200_is_malformed(body):
    with pytest.raises(Malformed):
        WIRE.decode(body)


@pytest.mark.parametrize(
    ("usage", "cost_nd"),
    [
        ({"cost": 0.000123}, 123_000),
        ({"cost": 1e-10}, 1),
        ({"cost": 0}, 0),
        ({"cost": None}, None),
        ({}, None),
        ({"cost": 0.01, "is_byok": True, "cost_details": {"upstream_inference_cost": 0.2}}, 210_000_000),
        ({"cost": 0.01, "is_byok": False, "cost_details": {"upstream_inference_cost": 0.2}}, 10_000_000),
    ],
)
def test_a_stated_cost_is_recorded_to_the_nano_dollar(usage, cost_nd):
    body = completion(usage={**USAGE, **usage})
    assert STATED.decode(body).cost_nd == cost_nd
    assert WIRE.decode(body).cost_nd is None


def test_a_negative_cost_is_malformed():
    with pytest.raises(Malformed):
        STATED.decode(completion(usage={**USAGE, "cost": -0.1}))


@pytest.mark.parametrize(
    ("status", "error", "kind", "retry"),
    [
        (429, {"message": "slow", "type": "requests", "code": "rate_limit_exceeded"}, "rate_limited", True),
        (429, {"message": "m", "type": "insufficient_quota", "code": "insufficient_quota"}, "spend_limit", False),
        (429, {"message": "m", "code": "project_spend_limit_exceeded"}, "spend_limit", False),
        (429, {"message": "m", "code": 429, "metadata": {"provider_name": "x"}}, "rate_limited", True),
        (400, {"message": "m", "code": "billing_hard_limit_reached"}, "spend_limit", False),
        (402, {"message": "m", "code": 402}, "spend_limit", False),
        (400, {"message": "m", "code": "content_filter", "innererror": {}}, "refusal", False),
        (403, {"message": "m", "code": 403, "metadata": {"reasons": ["violence"]}}, "refusal", False),
        (403, {"message": "m"}, "auth", False),
        (401, {"message": "m", "code": "invalid_api_key"}, "auth", False),
        (404, "no such model", "bad_request", False),
        (500, {"message": None}, "unavailable", True),
    ],
)
def test_error_responses(status, error, kind, retry):
    rejection = WIRE.reject(status, msgspec.json.encode({"error": error}))
    assert (rejection.kind, rejection.retry) == (kind, retry)


@pytest.mark.parametrize("body", [b"", b"\xff", b"[]", b'"x"', b'{"error":5}', b'{"detail":"x"}', b"{" * 9])
def test_whatever_an_error_body_holds_it_is_a_rejection(body):
    assert WIRE.reject(503, body).kind == "unavailable"


def test_rate_limit_headers():
    headers = {
        "x-ratelimit-limit-requests": "500",
        "x-ratelimit-remaining-requests": "499",
        "x-ratelimit-reset-requests": "120ms",
        "x-ratelimit-limit-tokens": "30000",
        "x-ratelimit-remaining-tokens": "29000",
        "x-ratelimit-reset-tokens": "1m3s",
    }
    assert WIRE.allowances(headers, 0) == {
        "requests": Allowance(limit=500, remaining=499, reset_s=0.12),
        "tokens": Allowance(limit=30_000, remaining=29_000, reset_s=63),
    }
    assert WIRE.allowances({**headers, "x-ratelimit-reset-requests": "soon"}, 0).keys() == {"tokens"}


@pytest.mark.parametrize(
    ("text", "seconds"), [("12ms", 0.012), ("1s", 1), ("6m0s", 360), ("1h2m3.5s", 3723.5), ("0s", 0), ("1.5s", 1.5)]
)
def test_durations(text, seconds):
    assert duration_s(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "1", "s", "1d", "1s2m"])
def test_what_is_no_duration(text):
    with pytest.raises(ValueError, match="duration"):
        duration_s(text)
