"""What goes over the wire for fixed questions, and what is made of fixed responses, stays as it was recorded."""

import json

import exchange_cases as cases
import httpx
import pytest

EXCHANGES = [
    (name, title, exchange)
    for name in cases.PROVIDER_CONFIGS
    for title, exchange in json.loads((cases.FOLDER / f"{name}.json").read_text(encoding="utf-8")).items()
]


@pytest.mark.parametrize(
    ("name", "title", "exchange"), EXCHANGES, ids=[f"{name}-{title}" for name, title, _ in EXCHANGES]
)
async def test_an_exchange_is_as_recorded(monkeypatch, name, title, exchange):
    monkeypatch.setenv(cases.KEY_VARIABLE, cases.KEY)
    recorded = exchange["response"]
    response = httpx.Response(recorded["status"], headers=recorded["headers"], json=recorded["body"])
    recorder = cases.Recorder(httpx.MockTransport(lambda request: response))
    assert await cases.outcome(name, cases.SCENES[title], recorder) == exchange["outcome"]
    assert recorder.request == exchange["request"]


def test_every_scene_of_every_provider_is_recorded_and_no_key_with_it():
    assert {(name, title) for name, title, _ in EXCHANGES} == {
        (name, title) for name in cases.PROVIDER_CONFIGS for title in cases.SCENES
    }
    for file in cases.FOLDER.iterdir():
        assert cases.KEY not in file.read_text(encoding="utf-8")
