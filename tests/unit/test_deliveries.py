import httpx
import msgspec
import pytest

from apprentice.remote import AnthropicModel, PriceTable, RateLimiter, Secret
from apprentice.remote.deliveries import REMEMBERED_MAX, Deliveries
from apprentice.system import SystemClock
from apprentice.testing import SeededRandomness
from apprentice_actors.ports import Question, RemoteFailure

MODEL = "claude-haiku-4-5"


def test_the_same_response_belongs_to_one_request():
    deliveries = Deliveries()
    assert [deliveries.note(*each) for each in ((b"q", b"r"), (b"q", b"r"), (b"other", b"r"), (b"other", b"s"))] == [
        "new",
        "again",
        "stray",
        "new",
    ]


def test_what_is_long_past_is_forgotten():
    deliveries = Deliveries()
    deliveries.note(b"q", b"first")
    for n in range(REMEMBERED_MAX):
        deliveries.note(b"q", f"{n}".encode())
    assert deliveries.note(b"other", b"first") == "new"


@pytest.mark.parametrize(("identity", "strays"), [("msg_1", True), ("", False)])
async def test_a_response_without_an_identifier_may_be_like_another(identity, strays):
    body = {"id": identity, "model": MODEL, "content": [{"type": "text", "text": "{}"}], "stop_reason": "end_turn"}
    body["usage"] = {"input_tokens": 1, "output_tokens": 1}
    content, clock = msgspec.json.encode(body), SystemClock()
    async with httpx.AsyncClient(
        transport=httpx.MockTransport(lambda request: httpx.Response(200, content=content))
    ) as c:
        model = AnthropicModel(
            MODEL,
            Secret("sk-unit-test-0123456789"),
            PriceTable.load().find("anthropic", MODEL),
            limiter=RateLimiter(clock),
            clock=clock,
            randomness=SeededRandomness(0),
            client=c,
        )
        await model.answer(Question(task="t", input={"n": 1}), timeout_s=5)
        second = Question(task="t", input={"n": 2})
        if not strays:
            assert (await model.answer(second, timeout_s=5)).output == {}
            return
        with pytest.raises(RemoteFailure) as caught:
            await model.answer(second, timeout_s=5)
        assert (caught.value.kind, caught.value.cost_nd) == ("interrupted", model.quote_nd(second))
