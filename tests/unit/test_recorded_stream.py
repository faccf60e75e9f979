import json

import httpx
import pytest

from apprentice.testing import Frontier, RecordedStream

HEADERS = {"x-api-key": "sk-recorded-0123", "anthropic-version": "2023-06-01"}
BODY = {"model": "claude-haiku-4-5", "max_tokens": 64}
ROWS = [
    {"id": 1, "text": "a", "label": "x", "in": 11, "out": 3},
    {"id": 2, "text": "b", "label": "y", "in": 12, "out": 4},
    {"id": 3, "text": "a", "label": "x", "in": 11, "out": 3},
]


def write(path, rows) -> object:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


async def test_a_recorded_stream_answers_as_it_did_then(tmp_path):
    stream = RecordedStream.load(
        write(tmp_path / "rows.jsonl", ROWS),
        input_fields=["text"],
        answer_field={"category": "label"},
        token_fields={"input_tokens": "in", "output_tokens": "out"},
    )
    assert (len(stream), stream.inputs) == (2, [{"text": "a"}, {"text": "b"}])
    async with (
        Frontier(stream) as frontier,
        httpx.AsyncClient(base_url=frontier.url, headers=HEADERS, trust_env=False) as client,
    ):

        async def answer(text: str) -> httpx.Response:
            messages = [{"role": "user", "content": json.dumps({"text": text})}]
            return await client.post("/v1/messages", json={**BODY, "messages": messages})

        known, unknown = (await answer("b")).json(), await answer("c")
    assert json.loads(known["content"][0]["text"]) == {"category": "y"}
    assert (known["usage"]["input_tokens"], known["usage"]["output_tokens"]) == (12, 4)
    assert unknown.status_code == 400
    assert "none of the 2 recorded inputs" in unknown.json()["error"]["message"]


def test_a_plain_answer_field_becomes_an_object(tmp_path):
    path = write(tmp_path / "rows.jsonl", ROWS)
    stream = RecordedStream.load(path, input_fields=["text"], answer_field="label", limit=1)
    assert (len(stream), stream({"text": "a"}).output) == (1, {"label": "x"})


def test_two_answers_to_one_input_are_refused_unless_the_first_may_win(tmp_path):
    path = write(tmp_path / "rows.jsonl", [*ROWS, {"text": "a", "label": "z"}])
    with pytest.raises(ValueError, match="different answers"):
        RecordedStream.load(path, input_fields=["text"], answer_field="label")
    first = RecordedStream.load(path, input_fields=["text"], answer_field="label", first_wins=True)
    assert first({"text": "a"}).output == {"label": "x"}


@pytest.mark.parametrize("line", ['{"text": "a"}', "[]", "{"])
def test_a_line_that_does_not_fit_is_named(tmp_path, line):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "a", "label": "x"}\n' + line + "\n")
    with pytest.raises(ValueError, match=r"rows\.jsonl, line 2"):
        RecordedStream.load(path, input_fields=["text"], answer_field="label")
