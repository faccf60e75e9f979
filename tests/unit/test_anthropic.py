import socket

import httpx
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apprentice.remote import AnthropicModel, Malformed, MessagesFormat, PriceTable, RateLimiter, Secret
from apprentice.remote.limits import Allowance
from apprentice.system import SystemClock
from apprentice.testing import Frontier, SeededRandomness
from apprentice_actors.ports import Question, RemoteFailure
from apprentice_events.vocabulary import TokenUsage

MODEL = "claude-haiku-4-5"
PRICE = PriceTable.load().find("anthropic", MODEL)
KEY = Secret("sk-unit-test-0123456789")
SCHEMA = {"type": "object", "properties": {"label": {"type": "string", "maxLength": 5}}, "required": ["label"]}
QUESTION = Question(
    task="t", input={"text": "hello"}, description="Label it.", output_schema=SCHEMA, max_output_tokens=100
)
WIRE = MessagesFormat(MODEL, KEY)
USAGE = {"input_tokens": 3, "output_tokens": 4}


def model(handler=None, *, url="http://provider.invalid", **options) -> AnthropicModel:
    client = None if handler is None else httpx.AsyncClient(transport=httpx.MockTransport(handler))
    clock = SystemClock()
    settings = {"max_attempts": 1, **options}
    return AnthropicModel(
        MODEL,
        KEY,
        PRICE,
        limiter=RateLimiter(clock),
        clock=clock,
        randomness=SeededRandomness(0),
        base_url=url,
        client=client,
        **settings,
    )


async def failure_of(asked: AnthropicModel, question: Question = QUESTION) -> RemoteFailure:
    with pytest.raises(RemoteFailure) as caught:
        await asked.answer(question, timeout_s=5)
    return caught.value


def body_of(question: Question, wire: MessagesFormat = WIRE) -> dict:
    return msgspec.json.decode(wire.encode(question))


def message(**fields) -> bytes:
    return msgspec.json.encode(
        {
            "model": MODEL,
            "content": [{"type": "text", "text": "{}"}],
            "usage": USAGE,
            "stop_reason": "end_turn",
            **fields,
        }
    )


def test_a_request_carries_the_schema_that_can_be_enforced_and_no_sampling_parameters():
    body = body_of(QUESTION)
    assert set(body) == {"model", "max_tokens", "system", "messages", "output_config"}
    assert (body["model"], body["max_tokens"]) == (MODEL, 100)
    assert body["messages"] == [{"role": "user", "content": '{"text":"hello"}'}]
    assert body["output_config"]["format"]["schema"]["additionalProperties"] is False
    assert "maxLength" not in str(body)


def test_a_schema_that_cannot_be_enforced_is_told_in_the_system_text():
    free = {"type": "object", "additionalProperties": {"type": "integer"}}
    body = body_of(Question(task="t", input={}, output_schema=free))
    assert "output_config" not in body
    assert '{"additionalProperties":{"type":"integer"},"type":"object"}' in body["system"]


def test_examples_are_earlier_turns():
    roles = [m["role"] for m in body_of(Question(task="t", input={}, examples=(({}, {}), ({}, {}))))["messages"]]
    assert roles == ["user", "assistant", "user", "assistant", "user"]


def test_a_temperature_is_sent_where_it_is_configured():
    assert body_of(QUESTION, MessagesFormat(MODEL, KEY, temperature=0.0))["temperature"] == 0.0


def test_the_headers_name_the_key_and_the_version():
    headers = WIRE.headers()
    assert (headers["x-api-key"], headers["anthropic-version"]) == (KEY.reveal(), "2023-06-01")


@pytest.mark.parametrize("value", ["private \ud800", float("inf"), float("nan"), object()])
async def test_an_input_that_is_no_json_is_refused_without_being_quoted(value):
    failure = await failure_of(model(), Question(task="odd", input={"x": value}))
    assert (failure.kind, failure.cost_nd) == ("bad_request", 0)
    assert "'odd'" in failure.message
    assert "private" not in failure.message


def test_usage_is_read_with_the_cache_apart():
    usage = {
        **USAGE,
        "cache_read_input_tokens": 7,
        "cache_creation_input_tokens": 30,
        "cache_creation": {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20},
        "output_tokens_details": {"thinking_tokens": 2},
    }
    completion = WIRE.decode(message(usage=usage))
    assert completion.usage == TokenUsage(
        input_tokens=3, output_tokens=4, cache_read_tokens=7, cache_write_tokens=30, reasoning_tokens=2
    )
    assert completion.cache_write_1h_tokens == 20


def test_null_cache_counts_are_none_at_all():
    usage = {**USAGE, "cache_read_input_tokens": None, "cache_creation_input_tokens": None, "cache_creation": None}
    assert WIRE.decode(message(usage=usage)).usage == TokenUsage(input_tokens=3, output_tokens=4)


def test_the_text_is_what_the_text_blocks_say_together():
    blocks = [
        {"type": "thinking", "thinking": "hm", "text": "no"},
        {"type": "text", "text": '{"a"'},
        {"type": "text", "text": ":1}"},
    ]
    assert WIRE.decode(message(content=blocks)).text == '{"a":1}'


@pytest.mark.parametrize(
    ("stop_reason", "kind"),
    [
        ("end_turn", None),
        ("stop_sequence", None),
        (None, None),
        ("refusal", "refusal"),
        ("max_tokens", "cut_off"),
        ("model_context_window_exceeded", "cut_off"),
        ("pause_turn", "invalid"),
        ("tool_use", "invalid"),
        ("something_new", "invalid"),
    ],
)
def test_stop_reasons(stop_reason, kind):
    failed = WIRE.decode(message(stop_reason=stop_reason)).failed
    assert (failed and failed[0]) == kind


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        message(usage={}),
        message(usage={"input_tokens": -1, "output_tokens": 0}),
        message(content="x"),
    ],
)
async def test_a_success_that_is_no_message_is_charged_in_full(body):
    with pytest.raises(Malformed):
        WIRE.decode(body)
    asked = model(lambda request: httpx.Response(200, content=body))
    failure = await failure_of(asked)
    assert (failure.kind, failure.cost_nd) == ("invalid", asked.quote_nd(QUESTION))


@pytest.mark.parametrize(
    ("status", "error", "kind", "retry"),
    [
        (400, {"type": "invalid_request_error", "message": "max_tokens: Field required"}, "bad_request", False),
        (
            400,
            {"type": "invalid_request_error", "message": "You have reached your specified API usage limits."},
            "spend_limit",
            False,
        ),
        (400, {"type": "invalid_request_error", "message": "Your credit balance is too low"}, "spend_limit", False),
        (402, {"type": "billing_error", "message": "pay"}, "spend_limit", False),
        (429, {"type": "rate_limit_error", "message": "slow down"}, "rate_limited", True),
        (
            429,
            {"type": "rate_limit_error", "message": "m", "details": {"error_code": "enforced_spend_limit_reached"}},
            "spend_limit",
            False,
        ),
        (
            429,
            {"type": "rate_limit_error", "message": "m", "details": {"error_code": "contract_spend_limit_reached"}},
            "spend_limit",
            False,
        ),
        (
            429,
            {"type": "rate_limit_error", "message": "m", "details": {"error_code": "ramp_limit_exceeded"}},
            "rate_limited",
            True,
        ),
        (529, {"type": "overloaded_error", "message": "Overloaded"}, "unavailable", True),
        (501, {"type": "api_error", "message": "?"}, "unavailable", True),
        (418, {"type": "invalid_request_error", "message": "teapot"}, "bad_request", False),
        (302, {}, "bad_request", False),
    ],
)
def test_error_responses(status, error, kind, retry):
    rejection = WIRE.reject(status, msgspec.json.encode({"type": "error", "error": error}))
    assert (rejection.kind, rejection.retry) == (kind, retry)
    assert error.get("message", "without an error object") in rejection.message


@pytest.mark.parametrize(
    "body", [b"", b"\xff", b"<html>", b"[]", b'"x"', b'{"error":"flat"}', b'{"error":{"message":5}}', b"{" * 9]
)
def test_whatever_an_error_body_holds_it_is_a_rejection(body):
    assert WIRE.reject(503, body).kind == "unavailable"


def test_an_endless_error_text_is_shortened():
    body = msgspec.json.encode({"error": {"type": "api_error", "message": "x" * 100_000}})
    assert len(WIRE.reject(500, body).message) < 1_000


async def test_an_error_text_that_repeats_the_key_is_cleaned():
    body = msgspec.json.encode({"error": {"type": "authentication_error", "message": f"no such key: {KEY.reveal()}"}})
    failure = await failure_of(model(lambda request: httpx.Response(401, content=body)))
    assert failure.kind == "auth"
    assert KEY.reveal() not in failure.message
    assert "check the key" in failure.message


def test_rate_limit_headers():
    headers = {
        "anthropic-ratelimit-requests-limit": "50",
        "anthropic-ratelimit-requests-remaining": "49",
        "anthropic-ratelimit-requests-reset": "2026-11-20T12:00:30Z",
        "anthropic-ratelimit-input-tokens-limit": "1000",
        "anthropic-ratelimit-input-tokens-remaining": "0",
        "anthropic-ratelimit-input-tokens-reset": "2026-11-20T11:00:00Z",
        "anthropic-ratelimit-tokens-limit": "1000",
        "anthropic-ratelimit-output-tokens-limit": "many",
        "anthropic-ratelimit-output-tokens-remaining": "1",
        "anthropic-ratelimit-output-tokens-reset": "2026-11-20T12:00:30Z",
    }
    noon_ns = 1_795_176_000 * 10**9
    assert WIRE.allowances(headers, noon_ns) == {
        "requests": Allowance(limit=50, remaining=49, reset_s=30),
        "input_tokens": Allowance(limit=1000, remaining=0, reset_s=0),
    }


async def test_nobody_listening_is_tried_again_and_costs_nothing():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        asked = model(url=f"http://127.0.0.1:{taken.getsockname()[1]}", max_attempts=3)
        asked._backoff = asked._backoff.__class__(first_s=0.0)
        failure = await failure_of(asked)
    await asked.aclose()
    assert (failure.kind, failure.cost_nd) == ("unavailable", 0)
    assert "check the network and the base URL" in failure.message


@pytest.mark.parametrize(
    "error", [httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError, httpx.DecodingError, httpx.ReadTimeout]
)
async def test_a_transport_that_tells_nothing_is_taken_to_have_sent(error):
    def broken(request: httpx.Request) -> httpx.Response:
        raise error("broken", request=request)

    asked = model(broken, max_attempts=3)
    failure = await failure_of(asked)
    assert (failure.kind, failure.cost_nd) == ("interrupted", asked.quote_nd(QUESTION))


@pytest.mark.parametrize("url", ["http://provider.invalid:port", "provider.invalid", "ftp://provider.invalid"])
async def test_an_address_that_is_none_is_named(url):
    asked = model(url=url)
    failure = await failure_of(asked)
    await asked.aclose()
    assert (failure.kind, failure.cost_nd) == ("bad_request", 0)
    assert url in failure.message


async def test_a_deadline_in_the_past_sends_nothing():
    async with Frontier(lambda asked: {}) as frontier:
        asked = model(url=frontier.url)
        with pytest.raises(RemoteFailure) as caught:
            await asked.answer(QUESTION, timeout_s=-1)
        await asked.aclose()
    assert (caught.value.kind, caught.value.cost_nd, frontier.calls) == ("unavailable", 0, [])


async def test_a_client_from_outside_stays_open():
    async with httpx.AsyncClient() as client:
        clock = SystemClock()
        asked = AnthropicModel(
            MODEL, KEY, PRICE, limiter=RateLimiter(clock), clock=clock, randomness=SeededRandomness(0), client=client
        )
        await asked.aclose()
        assert not client.is_closed


@settings(max_examples=40)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=200), st.integers(1, 500))
def test_a_quote_covers_every_byte_as_a_token_and_the_full_output(text, max_output_tokens):
    question = Question(task="t", input={"text": text}, output_schema=SCHEMA, max_output_tokens=max_output_tokens)
    asked = model(lambda request: httpx.Response(500))
    worst = TokenUsage(
        cache_write_tokens=len(MessagesFormat(MODEL, KEY).encode(question)),
        output_tokens=max_output_tokens,
    )
    written_1h = worst.cache_write_tokens
    assert asked.quote_nd(question) >= PRICE.cost_nd(worst, cache_write_1h_tokens=written_1h)


def test_no_attempt_at_all_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        model(lambda request: httpx.Response(500), max_attempts=0)
