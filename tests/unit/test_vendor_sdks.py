"""The vendors' own clients against the simulated frontier: they parse what it says into their typed classes.

So the fakes are checked by clients that were written by others. Anthropic's is in test_frontier.py, beside the rest of
what concerns its format.
"""

import json
import warnings

import anthropic
import openai
import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # an escape in one of its docstrings, when it is compiled for the first time
    from google import genai
    from google.genai import errors, types

from apprentice.testing import Fault, Frontier, Reply

ASKED = {"text": "hi"}
CHAT = {"model": "gpt-5-mini", "messages": [{"role": "user", "content": json.dumps(ASKED)}]}
RESPONSE = {"model": "gpt-5-mini", "input": json.dumps(ASKED)}
SCHEMA = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}
PARAMETERS = {"type": "object", "properties": {"amount": {"type": "number"}}}
REPLY = Reply(
    output={"echo": "hi"},
    input_tokens=10,
    output_tokens=5,
    cache_read_tokens=1_000,
    cache_write_tokens=300,
    cache_write_1h_tokens=100,
    reasoning_tokens=2,
)
CALLS = {"tool_calls": [{"name": "refund", "arguments": {"amount": 2.5}}]}
STATUSES = {
    Fault.rate_limited: 429,
    Fault.rate_limited_silently: 429,
    Fault.spend_limit: 429,
    Fault.usage_limit: 400,
    Fault.bad_request: 400,
    Fault.unauthorized: 401,
    Fault.billing: 402,
    Fault.forbidden: 403,
    Fault.not_found: 404,
    Fault.request_timeout: 408,
    Fault.conflict: 409,
    Fault.too_large: 413,
    Fault.server_error: 500,
    Fault.final_server_error: 500,
    Fault.bad_gateway: 502,
    Fault.unavailable: 503,
    Fault.gateway_timeout: 504,
    Fault.overloaded: 529,
}
TYPED = {
    400: openai.BadRequestError,
    401: openai.AuthenticationError,
    403: openai.PermissionDeniedError,
    404: openai.NotFoundError,
    409: openai.ConflictError,
    429: openai.RateLimitError,
}
CUT = (Fault.cut_connection, Fault.cut_body)
SOUND = (Fault.slow, Fault.wrong_schema, Fault.not_json, Fault.not_an_object, Fault.duplicate)
STOPS = (Fault.refusal, Fault.max_tokens, Fault.context_window, Fault.paused)


def test_every_fault_is_shown_to_the_vendors_clients():
    assert set(Fault) == {*STATUSES, *CUT, *SOUND, *STOPS, Fault.hang, Fault.garbled}


@pytest.fixture
def calling() -> list:
    """Outputs to give before the usual one."""
    return []


@pytest.fixture
async def frontier(calling):
    async with Frontier(lambda asked: calling.pop() if calling else REPLY, slow_s=0.0) as running:
        yield running


@pytest.fixture
async def client(frontier):
    async with openai.AsyncOpenAI(api_key="sk-0123456789", base_url=f"{frontier.url}/v1", max_retries=0) as opened:
        yield opened


@pytest.fixture
async def gemini(frontier):
    client = genai.Client(api_key="AIza-0123456789", http_options=types.HttpOptions(base_url=frontier.url)).aio
    yield client
    await client.aclose()


async def ask(client, api):
    return await (client.chat.completions.create(**CHAT) if api == "chat" else client.responses.create(**RESPONSE))


def checked(answer):
    """The clients build their classes without checking; this checks."""
    type(answer).model_validate(answer.model_dump(), strict=True)
    return answer


async def generate(gemini, **config):
    return await gemini.models.generate_content(
        model="gemini-2.5-flash", contents=json.dumps(ASKED), config=types.GenerateContentConfig(**config)
    )


# ---------------------------------------------------------------- OpenAI


async def test_openais_client_reads_a_chat_completion(client):
    answer = checked(await ask(client, "chat"))
    assert isinstance(answer, openai.types.chat.ChatCompletion)
    assert json.loads(answer.choices[0].message.content) == {"echo": "hi"}
    assert (answer.choices[0].finish_reason, answer.service_tier) == ("stop", "default")
    usage = answer.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (1_310, 5, 1_315)
    assert (usage.prompt_tokens_details.cached_tokens, usage.prompt_tokens_details.cache_write_tokens) == (1_000, 300)
    assert usage.completion_tokens_details.reasoning_tokens == 2


async def test_openais_client_reads_a_response(client):
    answer = checked(await ask(client, "responses"))
    assert isinstance(answer, openai.types.responses.Response)
    assert (json.loads(answer.output_text), answer.status) == ({"echo": "hi"}, "completed")
    given = answer.usage.input_tokens_details
    assert (answer.usage.input_tokens, given.cached_tokens, given.cache_write_tokens) == (1_310, 1_000, 300)
    assert given.cache_write_tokens_details.ttl_12h_tokens == 100
    assert answer.usage.output_tokens_details.reasoning_tokens == 2


async def test_openais_client_takes_structured_output(client):
    wanted = {"name": "answer", "schema": SCHEMA, "strict": True}
    chat = await client.chat.completions.create(
        **CHAT, response_format={"type": "json_schema", "json_schema": wanted}, service_tier="flex"
    )
    response = await client.responses.create(**RESPONSE, text={"format": {"type": "json_schema", **wanted}})
    assert json.loads(chat.choices[0].message.content) == json.loads(response.output_text) == {"echo": "hi"}
    assert chat.service_tier == "flex"


@pytest.mark.parametrize("api", ["chat", "responses"])
@pytest.mark.parametrize("fault", [*SOUND, *STOPS])
async def test_openais_client_reads_every_useless_answer(frontier, client, api, fault):
    frontier.fail_next(fault)
    answer = checked(await ask(client, api))
    if api == "chat":
        expected = {Fault.max_tokens: "length", Fault.context_window: "length", Fault.paused: "tool_calls"}
        assert answer.choices[0].finish_reason == expected.get(fault, "stop")
        assert bool(answer.choices[0].message.refusal) == (fault is Fault.refusal)
    else:
        assert answer.status == ("incomplete" if fault in STOPS and fault is not Fault.refusal else "completed")
        assert [part.type for part in answer.output[0].content] == [
            "refusal" if fault is Fault.refusal else "output_text"
        ]


@pytest.mark.parametrize("api", ["chat", "responses"])
@pytest.mark.parametrize(("fault", "status"), STATUSES.items())
async def test_openais_client_raises_its_typed_error(frontier, client, api, fault, status):
    frontier.fail_next(fault)
    wanted = openai.InternalServerError if status >= 500 else TYPED.get(status, openai.APIStatusError)
    with pytest.raises(wanted) as caught:
        await ask(client, api)
    assert caught.value.status_code == status
    if fault is not Fault.bad_gateway:
        assert caught.value.body["message"]
        assert caught.value.type
    codes = {Fault.spend_limit: "insufficient_quota", Fault.usage_limit: "billing_hard_limit_reached"}
    assert codes.get(fault) in (None, caught.value.code)


@pytest.mark.parametrize("api", ["chat", "responses"])
@pytest.mark.parametrize("fault", CUT)
async def test_openais_client_notices_a_broken_connection(frontier, client, api, fault):
    frontier.fail_next(fault)
    with pytest.raises(openai.APIConnectionError):
        await ask(client, api)


async def test_openais_client_reads_tool_calls(calling, client):
    calling.extend([CALLS, CALLS])
    function = {"name": "refund", "parameters": PARAMETERS}
    tool = {"type": "function", "strict": False, **function}
    chat = checked(await client.chat.completions.create(**CHAT, tools=[{"type": "function", "function": function}]))
    response = checked(await client.responses.create(**RESPONSE, tools=[tool]))
    call = chat.choices[0].message.tool_calls[0]
    assert (call.function.name, json.loads(call.function.arguments)) == ("refund", {"amount": 2.5})
    assert chat.choices[0].finish_reason == "tool_calls"
    assert (response.output[0].name, json.loads(response.output[0].arguments)) == ("refund", {"amount": 2.5})


async def test_azures_client_speaks_the_older_form(frontier):
    async with openai.AsyncAzureOpenAI(
        api_key="azure-0123456789", azure_endpoint=frontier.url, api_version="2024-10-21", max_retries=0
    ) as client:
        answer = checked(await client.chat.completions.create(**CHAT))
    assert answer.model == "gpt-5-mini"
    assert frontier.calls[0].status == 200


async def test_a_client_reads_what_openrouter_says_it_cost(frontier):
    async with openai.AsyncOpenAI(
        api_key="sk-or-0123456789", base_url=f"{frontier.url}/api/v1", max_retries=0
    ) as client:
        answer = checked(await client.chat.completions.create(**CHAT))
    assert answer.usage.model_extra["cost"] == 0
    assert frontier.calls[0].api == "openrouter"


# ---------------------------------------------------------------- Anthropic


async def test_anthropics_client_reads_tool_calls_and_sends_images(frontier, calling):
    calling.append(CALLS)
    source = {"type": "base64", "media_type": "image/png", "data": "AAAA"}
    content = [{"type": "image", "source": source}, {"type": "text", "text": json.dumps(ASKED)}]
    async with anthropic.AsyncAnthropic(api_key="sk-0123456789", base_url=frontier.url, max_retries=0) as client:
        answer = checked(
            await client.messages.create(
                model="claude-haiku-4-5",
                max_tokens=64,
                messages=[{"role": "user", "content": content}],
                tools=[{"name": "refund", "description": "Pay back.", "input_schema": PARAMETERS}],
            )
        )
    assert (answer.stop_reason, answer.content[0].name, answer.content[0].input) == (
        "tool_use",
        "refund",
        {"amount": 2.5},
    )
    assert answer.usage.output_tokens_details.thinking_tokens == 0
    assert (frontier.calls[0].images, frontier.calls[0].input) == (1, ASKED)


# ---------------------------------------------------------------- Google


async def test_googles_client_reads_an_answer(gemini):
    answer = await generate(gemini, response_mime_type="application/json", response_json_schema=SCHEMA)
    assert isinstance(answer, types.GenerateContentResponse)
    assert json.loads(answer.text) == {"echo": "hi"}
    assert answer.candidates[0].finish_reason is types.FinishReason.STOP
    usage = answer.usage_metadata
    assert (usage.prompt_token_count, usage.cached_content_token_count) == (1_310, 1_000)
    assert (usage.candidates_token_count, usage.thoughts_token_count, usage.total_token_count) == (3, 2, 1_315)
    assert answer.model_version == "gemini-2.5-flash"


@pytest.mark.parametrize("fault", [*SOUND, *STOPS])
async def test_googles_client_reads_every_useless_answer(frontier, gemini, fault):
    frontier.fail_next(fault)
    answer = await generate(gemini)
    if fault is Fault.refusal:
        assert answer.prompt_feedback.block_reason is types.BlockedReason.SAFETY
    else:
        reasons = {Fault.max_tokens: "MAX_TOKENS", Fault.context_window: "MAX_TOKENS", Fault.paused: "OTHER"}
        assert answer.candidates[0].finish_reason.value == reasons.get(fault, "STOP")


@pytest.mark.parametrize(("fault", "status"), STATUSES.items())
async def test_googles_client_raises_its_typed_error(frontier, gemini, fault, status):
    frontier.fail_next(fault)
    with pytest.raises(errors.ServerError if status >= 500 else errors.ClientError) as caught:
        await generate(gemini)
    assert caught.value.code == status
    if fault is not Fault.bad_gateway:
        assert caught.value.message
        assert caught.value.status
    if fault is Fault.rate_limited:
        assert caught.value.details["error"]["details"][0]["retryDelay"] == "2s"


async def test_googles_client_reads_tool_calls_and_sends_images(frontier, calling, gemini):
    declaration = types.FunctionDeclaration(name="refund", parameters_json_schema=PARAMETERS)
    calling.append(CALLS)
    answer = await gemini.models.generate_content(
        model="gemini-2.5-flash",
        contents=[types.Part.from_bytes(data=b"x", mime_type="image/png"), json.dumps(ASKED)],
        config=types.GenerateContentConfig(
            tools=[types.Tool(function_declarations=[declaration])], service_tier="flex"
        ),
    )
    assert (answer.function_calls[0].name, answer.function_calls[0].args) == ("refund", {"amount": 2.5})
    assert (frontier.calls[0].images, frontier.calls[0].input) == (1, ASKED)
