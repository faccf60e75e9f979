"""Versions that a vendor serves: no loading, the vendor's name, strict structured output."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from apprentice.config import LocalConfig
from apprentice.config.local import ServerConfig
from apprentice.errors import InvalidConfig
from apprentice.local.confidence import Token, fit
from apprentice.local.hosted import HostedModel
from apprentice.training.versions import write_version
from apprentice_actors.ports import LocalFailure, Question

BASE = "gpt-4.1-mini"
MODEL = "ft:gpt-4.1-mini:org::1"
KEY = "sk-test-0123456789"
SCHEMA = {
    "type": "object",
    "properties": {"zeta": {"type": "string"}, "alpha": {"type": "string"}},
    "required": ["zeta"],
}


class Vendor:
    def __init__(self) -> None:
        self.models = {MODEL}
        self.asked: list[dict[str, Any]] = []
        self.choice: dict[str, Any] = {
            "message": {"content": '{"zeta":"x","alpha":null}'},
            "finish_reason": "stop",
            "logprobs": {"content": [{"token": '{"zeta":"x","alpha":null}', "logprob": -0.01}]},
        }

    def __call__(self, request: httpx.Request) -> httpx.Response:
        assert request.headers["authorization"] == f"Bearer {KEY}"
        path = request.url.path.removeprefix("/v1")
        if path == "/models":
            return httpx.Response(200, json={"data": []})
        if path.startswith("/models/"):
            known = path.removeprefix("/models/") in self.models
            return httpx.Response(200 if known else 404, json={} if known else {"error": {"message": "no such model"}})
        assert path == "/chat/completions"
        self.asked.append(json.loads(request.content))
        return httpx.Response(200, json={"choices": [self.choice]})


@pytest.fixture
def vendor(monkeypatch) -> Vendor:
    monkeypatch.setenv("VENDOR_KEY", KEY)
    return Vendor()


def config(home: Path, **more: Any) -> LocalConfig:
    return LocalConfig(
        backend="openai",
        base_model=BASE,
        fine_tune_backend="openai",
        model_dir=home,
        server=ServerConfig(api_key_env="VENDOR_KEY"),
        **more,
    )


@pytest.fixture
async def model(vendor, tmp_path):
    async with httpx.AsyncClient(transport=httpx.MockTransport(vendor)) as client:
        made = HostedModel(config(tmp_path), client=client)
        yield made
        await made.aclose()


def hosted(folder: Path, version: str = "tickets@v1") -> Path:
    def fill(into: Path) -> None:
        (into / "hosted.json").write_text(json.dumps({"model": MODEL, "job": "j"}))
        fit([[Token('{"zeta":"x"}', -0.1)]] * 30, [True] * 30, ()).save(into)

    write_version(
        folder,
        fill,
        version=version,
        base=BASE,
        parent=None,
        dataset="",
        calibration="",
        settings={},
        metrics={},
        created="2026-01-01T00:00:00+00:00",
    )
    return folder


def ask(**more: Any) -> Question:
    return Question(task="tickets", input={"text": "x"}, output_schema=SCHEMA, **more)


async def test_the_vendors_model_answers_in_strict_structured_output(model, vendor, tmp_path):
    await model.load("tickets@v1", hosted(tmp_path / "v1"))
    answer = await model.answer(ask(max_output_tokens=77), "tickets@v1")
    assert answer.output == {"zeta": "x"}, "null only means left out"
    assert 0.5 < answer.p_agree < 1.0
    (sent,) = vendor.asked
    assert (sent["model"], sent["temperature"], sent["max_completion_tokens"]) == (MODEL, 0, 77)
    enforced = sent["response_format"]["json_schema"]
    assert enforced["strict"]
    assert list(enforced["schema"]["properties"]) == ["zeta", "alpha"]


async def test_loading_asks_the_vendor_for_the_model_and_buys_nothing(model, vendor, tmp_path):
    await model.load("tickets@v1", hosted(tmp_path / "v1"))
    await model.load("tickets@v1", tmp_path / "gone")
    assert vendor.asked == []
    assert model.loaded() == {"tickets@v1"}
    vendor.models.clear()
    with pytest.raises(LocalFailure, match=r"tickets@v2 cannot be loaded: the vendor does not have its model.*no such"):
        await model.load("tickets@v2", hosted(tmp_path / "v2", "tickets@v2"))


async def test_there_is_no_base_to_ask_for_money_that_nobody_set_aside(model):
    assert model.base is None


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ({"message": {"content": '{"zeta'}, "finish_reason": "length"}, "cut off"),
        ({"message": {"content": None, "refusal": "I cannot"}, "finish_reason": "stop"}, "declined"),
        ({"finish_reason": "stop"}, "not a chat completion"),
    ],
)
async def test_what_is_no_answer_is_a_failure(model, vendor, tmp_path, choice, words):
    await model.load("tickets@v1", hosted(tmp_path / "v1"))
    vendor.choice = choice
    with pytest.raises(LocalFailure, match=words):
        await model.answer(ask(), "tickets@v1")


async def test_after_the_end_nothing_is_asked(model, tmp_path):
    assert await model.healthy()
    await model.load("tickets@v1", hosted(tmp_path / "v1"))
    await model.unload("tickets@v1")
    with pytest.raises(LocalFailure, match="tickets@v1 is not loaded"):
        await model.answer(ask(), "tickets@v1")
    await model.aclose()
    assert not await model.healthy()
    with pytest.raises(LocalFailure, match="closed"):
        await model.load("tickets@v1", tmp_path / "v1")


def test_a_key_that_is_not_there_is_named(monkeypatch, tmp_path):
    monkeypatch.delenv("VENDOR_KEY", raising=False)
    with pytest.raises(InvalidConfig, match="VENDOR_KEY"):
        HostedModel(config(tmp_path))
