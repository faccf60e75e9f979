import asyncio
import json

import anthropic
import httpx
import msgspec
import pytest

from apprentice.remote import AnthropicModel, PriceTable, RateLimiter, Secret
from apprentice.testing import Fault, FaultPlan, Frontier, Reply, SeededRandomness, run_virtual
from apprentice_actors.ports import Question, RemoteFailure

MODEL = "claude-haiku-4-5"
PRICE = PriceTable.load().find("anthropic", MODEL)
HEADERS = {"x-api-key": "sk-frontier-0123", "anthropic-version": "2023-06-01"}
BODY = {"model": MODEL, "max_tokens": 64, "messages": [{"role": "user", "content": '{"text":"hi"}'}]}
FORMAT = {"type": "json_schema", "schema": {"type": "object", "properties": {}, "additionalProperties": False}}
ERRORS = {
    Fault.rate_limited: anthropic.RateLimitError,
    Fault.rate_limited_silently: anthropic.RateLimitError,
    Fault.spend_limit: anthropic.RateLimitError,
    Fault.usage_limit: anthropic.BadRequestError,
    Fault.bad_request: anthropic.BadRequestError,
    Fault.unauthorized: anthropic.AuthenticationError,
    Fault.billing: anthropic.APIStatusError,
    Fault.forbidden: anthropic.PermissionDeniedError,
    Fault.not_found: anthropic.NotFoundError,
    Fault.request_timeout: anthropic.APIStatusError,
    Fault.conflict: anthropic.ConflictError,
    Fault.too_large: anthropic.APIStatusError,
    Fault.server_error: anthropic.InternalServerError,
    Fault.final_server_error: anthropic.InternalServerError,
    Fault.bad_gateway: anthropic.InternalServerError,
    Fault.unavailable: anthropic.InternalServerError,
    Fault.gateway_timeout: anthropic.InternalServerError,
    Fault.overloaded: anthropic.InternalServerError,
    Fault.cut_connection: anthropic.APIConnectionError,
    Fault.cut_body: anthropic.APIConnectionError,
}
STOPS = {
    Fault.refusal: "refusal",
    Fault.max_tokens: "max_tokens",
    Fault.context_window: "model_context_window_exceeded",
    Fault.paused: "pause_turn",
    Fault.not_json: "end_turn",
    Fault.not_an_object: "end_turn",
    Fault.wrong_schema: "end_turn",
    Fault.slow: "end_turn",
    Fault.duplicate: "end_turn",
}


@pytest.fixture
async def frontier():
    async with Frontier(lambda asked: {"echo": asked}, price=PRICE, slow_s=0.0) as running:
        yield running


@pytest.fixture
async def client(frontier):
    async with httpx.AsyncClient(base_url=frontier.url, headers=HEADERS, trust_env=False) as opened:
        yield opened


@pytest.fixture
async def sdk(frontier):
    async with anthropic.AsyncAnthropic(api_key="sk-frontier-0123", base_url=frontier.url, max_retries=0) as opened:
        yield opened


async def ask(sdk):
    return await sdk.messages.create(**BODY)


# ---------------------------------------------------------------- the vendor's own client


async def test_the_vendors_client_reads_an_answer(frontier, sdk):
    answer = await ask(sdk)
    assert isinstance(answer, anthropic.types.Message)
    assert json.loads(answer.content[0].text) == {"echo": {"text": "hi"}}
    assert (answer.stop_reason, answer.model, answer.role) == ("end_turn", MODEL, "assistant")
    assert answer.usage.input_tokens == frontier.calls[0].usage.input_tokens > 0
    # The client builds its classes without checking; this checks.
    anthropic.types.Message.model_validate(answer.model_dump(), strict=True)


async def test_the_vendors_client_takes_structured_output(sdk):
    answer = await sdk.messages.create(**BODY, output_config={"format": FORMAT})
    assert json.loads(answer.content[0].text) == {"echo": {"text": "hi"}}


@pytest.mark.parametrize(("fault", "stop_reason"), STOPS.items())
async def test_the_vendors_client_reads_every_useless_answer(frontier, sdk, fault, stop_reason):
    frontier.fail_next(fault)
    answer = await ask(sdk)
    assert answer.stop_reason == stop_reason
    anthropic.types.Message.model_validate(answer.model_dump(), strict=True)


@pytest.mark.parametrize(("fault", "error"), ERRORS.items())
async def test_the_vendors_client_raises_its_typed_error(frontier, sdk, fault, error):
    frontier.fail_next(fault)
    with pytest.raises(error) as caught:
        await ask(sdk)
    if isinstance(caught.value, anthropic.APIStatusError) and fault is not Fault.bad_gateway:
        assert caught.value.body["type"] == "error"
        assert caught.value.body["error"]["message"]


async def test_the_vendors_client_knows_the_spend_limit(frontier, sdk):
    frontier.fail_next(Fault.spend_limit)
    with pytest.raises(anthropic.RateLimitError) as caught:
        await ask(sdk)
    assert caught.value.body["error"]["details"]["error_code"] == "enforced_spend_limit_reached"


def test_every_fault_is_shown_to_the_vendors_client():
    assert set(Fault) == {*ERRORS, *STOPS, Fault.hang, Fault.garbled}


# ---------------------------------------------------------------- what it refuses


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"model": ""}, "model"),
        ({"surprise": 1}, "surprise"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "messages"),
        ({"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "{"}]}, "messages"),
        ({"messages": [{"role": "system", "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": " "}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": "x", "name": "y"}]}, "messages.0"),
        ({"temperature": 2}, "temperature"),
        ({"stream": True}, "stream"),
        ({"system": 5}, "system"),
        ({"output_config": {"format": {"type": "json_schema"}}}, "output_config"),
        ({"output_config": {"format": {**FORMAT, "schema": {"type": "object"}}}}, "additionalProperties"),
        (
            {
                "output_config": {
                    "format": {**FORMAT, "schema": {**FORMAT["schema"], "properties": {"x": {"minimum": 1}}}}
                }
            },
            "properties.x: minimum",
        ),
    ],
)
async def test_a_wrong_body_is_refused_and_not_billed(frontier, client, change, named):
    body = {key: value for key, value in {**BODY, **change}.items() if value is not None}
    response = await client.post("/v1/messages", json=body)
    assert response.status_code == 400
    assert named in response.json()["error"]["message"]
    assert frontier.billed_nd == 0


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff"])
async def test_what_is_no_json_object_is_refused(client, body):
    assert (await client.post("/v1/messages", content=body)).status_code == 400


@pytest.mark.parametrize(("headers", "status"), [({"x-api-key": ""}, 401), ({"anthropic-version": "2020-01-01"}, 400)])
async def test_wrong_headers_are_refused(client, headers, status):
    assert (await client.post("/v1/messages", json=BODY, headers=headers)).status_code == status


async def test_a_key_can_be_demanded():
    async with (
        Frontier(lambda asked: {}, api_key="sk-the-right-one") as frontier,
        httpx.AsyncClient(base_url=frontier.url, trust_env=False) as client,
    ):
        wrong = await client.post("/v1/messages", json=BODY, headers=HEADERS)
        right = await client.post("/v1/messages", json=BODY, headers={**HEADERS, "x-api-key": "sk-the-right-one"})
    assert (wrong.status_code, right.status_code) == (401, 200)


async def test_the_new_version_of_the_api_takes_no_temperature(client):
    body = {**BODY, "temperature": 0.0}
    new = await client.post("/v1/messages", json=body, headers={"anthropic-version": "2026-10-21"})
    old = await client.post("/v1/messages", json=body)
    assert (new.status_code, old.status_code) == (400, 200)


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/v1/messages", 405), ("POST", "/v1/complete", 404)])
async def test_other_paths_and_methods_do_not_exist(client, method, path, status):
    assert (await client.request(method, path)).status_code == status


# ---------------------------------------------------------------- the ledger, the faults, the limits


async def test_the_ledger_says_what_was_asked_and_billed(frontier, client):
    frontier.fail_next(Fault.overloaded)
    for text in ("a", "a", "b"):
        await client.post(
            "/v1/messages", json={**BODY, "messages": [{"role": "user", "content": f'{{"text":"{text}"}}'}]}
        )
    assert [(call.status, call.input["text"]) for call in frontier.calls] == [(529, "a"), (200, "a"), (200, "b")]
    assert (frontier.times_asked({"text": "a"}), frontier.times_billed({"text": "a"})) == (2, 1)
    assert frontier.times_asked({"text": "c"}) == 0
    assert frontier.billed_nd == sum(PRICE.cost_nd(call.usage) for call in frontier.calls if call.usage)


async def test_plain_text_is_an_input_too(frontier, client):
    await client.post("/v1/messages", json={**BODY, "messages": [{"role": "user", "content": "just words"}]})
    assert frontier.calls[0].input == {"text": "just words"}


async def test_an_answer_longer_than_allowed_is_cut_off():
    async with (
        Frontier(lambda asked: Reply(output={"x": "y" * 50}, output_tokens=65)) as frontier,
        httpx.AsyncClient(base_url=frontier.url, headers=HEADERS, trust_env=False) as client,
    ):
        answer = (await client.post("/v1/messages", json=BODY)).json()
    assert (answer["stop_reason"], answer["usage"]["output_tokens"]) == ("max_tokens", 64)


def test_a_plan_follows_its_schedule_then_chance_and_is_overruled_by_next():
    plan = FaultPlan(schedule=[None, Fault.refusal], probability=1.0, kinds=[Fault.overloaded])
    plan.fail_next(Fault.conflict)
    assert [plan.draw(index) for index in range(3)] == [Fault.conflict, Fault.refusal, Fault.overloaded]
    assert FaultPlan(schedule={5: Fault.hang}).draw(5) is Fault.hang


def test_chance_depends_on_seed_and_index_alone():
    def drawn(seed: int, order: range) -> dict[int, Fault | None]:
        plan = FaultPlan(probability=0.3, seed=seed)
        return {index: plan.draw(index) for index in order}

    forwards = drawn(1, range(500))
    assert forwards == drawn(1, range(499, -1, -1))
    assert forwards != drawn(2, range(500))
    assert 100 < sum(fault is not None for fault in forwards.values()) < 200


@pytest.mark.parametrize("wrong", [{"probability": 1.5}, {"probability": 0.5, "kinds": ()}])
def test_a_plan_that_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match="probability"):
        FaultPlan(**wrong)


async def test_the_rate_limit_is_told_and_enforced():
    async with (
        Frontier(lambda asked: {}, rate_limit=2) as frontier,
        httpx.AsyncClient(base_url=frontier.url, headers=HEADERS, trust_env=False) as client,
    ):
        responses = [await client.post("/v1/messages", json=BODY) for _ in range(3)]
    assert [response.status_code for response in responses] == [200, 200, 429]
    assert [response.headers["anthropic-ratelimit-requests-remaining"] for response in responses] == ["1", "0", "0"]
    assert responses[0].headers["anthropic-ratelimit-requests-limit"] == "2"
    assert responses[0].headers["anthropic-ratelimit-requests-reset"].endswith("Z")
    assert 0 < int(responses[2].headers["retry-after"]) <= 30
    assert frontier.times_billed({"text": "hi"}) == 2


# ---------------------------------------------------------------- the wire


def raw(body: bytes = msgspec.json.encode(BODY), **headers: str) -> bytes:
    lines = {**HEADERS, "content-length": str(len(body)), **headers}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"POST /v1/messages HTTP/1.1\r\n{head}\r\n".encode() + body


async def exchange(frontier: Frontier, *pieces: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(frontier.url.rpartition(":")[2]))
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(0)
    writer.write_eof()
    received = await reader.read()
    writer.close()
    return received


async def test_requests_may_come_in_pieces_and_together(frontier):
    request = raw()
    whole = await exchange(frontier, *(request[at : at + 7] for at in range(0, len(request), 7)))
    assert whole.count(b"HTTP/1.1 200") == 1
    assert (await exchange(frontier, request * 3)).count(b"HTTP/1.1 200") == 3


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (raw(**{"content-length": "many"}), b"400"),
        (raw(**{"content-length": "-1"}), b"413"),
        (raw(**{"content-length": str(10**12)}), b"413"),
        (raw(**{"transfer-encoding": "chunked"}), b"411"),
        (b"nonsense\r\n\r\n", b"400"),
        (b"x" * 70_000, b"431"),
    ],
)
async def test_what_is_no_request_is_refused_and_the_connection_closed(frontier, request_bytes, status):
    assert (await exchange(frontier, request_bytes)).startswith(b"HTTP/1.1 " + status)
    assert frontier.calls == []


async def test_leaving_closes_every_connection():
    frontier = Frontier(lambda asked: {}, faults=FaultPlan(schedule=[Fault.hang]))
    async with frontier, httpx.AsyncClient(base_url=frontier.url, headers=HEADERS, trust_env=False) as client:
        asking = asyncio.create_task(client.post("/v1/messages", json=BODY))
        for _ in range(100_000):
            if frontier.calls:
                break
            await asyncio.sleep(0)
        await frontier.__aexit__(None, None, None)
        with pytest.raises(httpx.TransportError):
            await asking
    assert frontier.calls[0].abandoned


# ---------------------------------------------------------------- virtual time


def test_in_virtual_time_the_model_is_reached_without_a_socket():
    async def life(clock) -> tuple[float, list[str]]:
        plan = FaultPlan(schedule=[Fault.slow, Fault.rate_limited, None, Fault.hang])
        frontier = Frontier(lambda asked: {"ok": True}, clock=clock, latency=1.0, slow_s=9.0, faults=plan)
        async with httpx.AsyncClient(transport=frontier.transport()) as client:
            model = AnthropicModel(
                MODEL,
                Secret("sk-virtual-000"),
                PRICE,
                limiter=RateLimiter(clock),
                clock=clock,
                randomness=SeededRandomness(0),
                client=client,
            )
            began, kinds = clock.monotonic(), []
            for _ in range(3):
                try:
                    await model.answer(Question(task="t", input={}), timeout_s=60)
                    kinds.append("answered")
                except RemoteFailure as failure:
                    kinds.append(failure.kind)
            return clock.monotonic() - began, kinds

    seconds, kinds = run_virtual(life)
    assert kinds == ["answered", "answered", "timeout"]
    assert 10 + 2 + 1 + 60 <= seconds <= 10 + 2.2 + 1 + 60.1
