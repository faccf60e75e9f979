import msgspec
import pytest

from apprentice.remote import GeminiFormat, Malformed, Secret
from apprentice.remote.google import TIER_HEADER
from apprentice_actors.ports import Question
from apprentice_events.vocabulary import TokenUsage

KEY = Secret("AIza-unit-test-0123456789")
WIRE = GeminiFormat("models/gemini-2.5-flash", KEY)
SCHEMA = {"type": "object", "properties": {"kind": {"const": "a"}}, "required": ["kind"]}


def body_of(question: Question, wire: GeminiFormat = WIRE) -> dict:
    return msgspec.json.decode(wire.encode(question))


def response(*parts: dict, finish="STOP", usage=None, **fields) -> bytes:
    candidate = {"content": {"parts": list(parts), "role": "model"}, "finishReason": finish}
    counted = {"promptTokenCount": 3, "candidatesTokenCount": 4} if usage is None else usage
    return msgspec.json.encode({"candidates": [candidate], "usageMetadata": counted, **fields})


def error(message: str, *details: dict, status: str = "X") -> bytes:
    return msgspec.json.encode({"error": {"code": 0, "message": message, "status": status, "details": details}})


def test_the_key_stands_in_a_header_and_the_model_in_the_path():
    assert WIRE.path == "/v1beta/models/gemini-2.5-flash:generateContent"
    assert WIRE.headers()["x-goog-api-key"] == KEY.reveal()
    assert GeminiFormat("a/../b", KEY).path == "/v1beta/models/a%2F..%2Fb:generateContent"


def test_a_request_asks_for_json_by_a_schema_without_const():
    body = body_of(Question(task="t", input={"a": 1}, output_schema=SCHEMA, max_output_tokens=9))
    assert set(body) == {"systemInstruction", "contents", "generationConfig"}
    generation = body["generationConfig"]
    assert (generation["maxOutputTokens"], generation["responseMimeType"]) == (9, "application/json")
    assert generation["responseJsonSchema"]["properties"]["kind"] == {"enum": ["a"]}


def test_examples_are_turns_of_the_model():
    question = Question(task="t", input={}, examples=(({}, {}),))
    assert [content["role"] for content in body_of(question)["contents"]] == ["user", "model", "user"]


def test_what_is_chosen_is_sent():
    body = body_of(Question(task="t", input={}), GeminiFormat("m", KEY, temperature=0.5, service_tier="flex"))
    assert (body["generationConfig"]["temperature"], body["serviceTier"]) == (0.5, "flex")


def test_thoughts_and_tool_results_are_counted_apart():
    usage = {
        "promptTokenCount": 100,
        "cachedContentTokenCount": 60,
        "candidatesTokenCount": 20,
        "thoughtsTokenCount": 15,
        "toolUsePromptTokenCount": 7,
        "totalTokenCount": 142,
    }
    read = WIRE.decode(response({"text": "{}"}, usage=usage))
    assert read.usage == TokenUsage(input_tokens=47, output_tokens=35, cache_read_tokens=60, reasoning_tokens=15)


def test_thoughts_are_not_part_of_the_text():
    assert WIRE.decode(response({"text": "hm", "thought": True}, {"text": "{}"})).text == "{}"


def test_the_tier_is_read_where_it_is_told_and_taken_as_asked_otherwise():
    flex = GeminiFormat("m", KEY, service_tier="flex")
    assert flex.decode(response({"text": "{}"}), {TIER_HEADER: "standard"}).service_tier == "standard"
    assert flex.decode(response({"text": "{}"})).service_tier == "flex"
    told = {"promptTokenCount": 1, "serviceTier": "priority"}
    assert WIRE.decode(response({"text": "{}"}, usage=told)).service_tier == "priority"


@pytest.mark.parametrize(
    ("finish", "kind"),
    [
        ("STOP", None),
        (None, None),
        ("MAX_TOKENS", "cut_off"),
        ("SAFETY", "refusal"),
        ("RECITATION", "refusal"),
        ("PROHIBITED_CONTENT", "refusal"),
        ("MALFORMED_FUNCTION_CALL", "invalid"),
        ("OTHER", "invalid"),
    ],
)
def test_finish_reasons(finish, kind):
    failed = WIRE.decode(response({"text": "{}"}, finish=finish)).failed
    assert (failed and failed[0]) == kind


def test_a_candidate_that_was_stopped_may_have_no_content():
    body = b'{"candidates":[{"finishReason":"SAFETY"}],"usageMetadata":{"promptTokenCount":3}}'
    assert WIRE.decode(body).failed[0] == "refusal"


def test_a_blocked_prompt_is_a_refusal_and_no_candidate_is_no_answer():
    usage = {"usageMetadata": {"promptTokenCount": 3}}
    blocked = WIRE.decode(msgspec.json.encode({"promptFeedback": {"blockReason": "SAFETY"}, **usage}))
    assert (blocked.failed[0], blocked.usage.input_tokens) == ("refusal", 3)
    assert WIRE.decode(msgspec.json.encode(usage)).failed[0] == "invalid"


def test_calls_without_arguments_have_none():
    read = WIRE.decode(response({"functionCall": {"name": "f"}}))
    assert (read.tool_calls[0].name, read.tool_calls[0].arguments) == ("f", {})


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", response(usage={"promptTokenCount": 3, "cachedContentTokenCount": 4})]
)
def test_anything_else_under_200_is_malformed(body):
    with pytest.raises(Malformed):
        WIRE.decode(body)


RETRY = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "21.5s"}
NO_QUOTA = {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaValue": "0"}]}
BAD_KEY = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}


@pytest.mark.parametrize(
    ("status", "body", "kind", "retry", "after_s"),
    [
        (429, error("Quota exceeded, limit: 15", RETRY), "rate_limited", True, 21.5),
        (429, error("Quota exceeded, limit: 0, model: x", RETRY), "spend_limit", False, 21.5),
        (429, error("Quota exceeded", NO_QUOTA), "spend_limit", False, None),
        (429, error("Your project has exceeded its monthly spending cap."), "spend_limit", False, None),
        (400, error("API key not valid.", BAD_KEY), "auth", False, None),
        (400, error("bad field"), "bad_request", False, None),
        (403, error("denied"), "auth", False, None),
        (503, error("overloaded", {"retryDelay": "soon"}), "unavailable", True, None),
        (500, b"<html>", "unavailable", True, None),
        (500, b'{"error":"flat"}', "unavailable", True, None),
    ],
)
def test_error_responses(status, body, kind, retry, after_s):
    rejection = WIRE.reject(status, body)
    assert (rejection.kind, rejection.retry, rejection.after_s) == (kind, retry, after_s)


def test_no_limits_are_told():
    assert WIRE.allowances({"x-ratelimit-limit-requests": "1"}, 0) == {}
