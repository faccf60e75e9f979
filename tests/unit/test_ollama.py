"""Versions as models of an Ollama server, against one in memory whose exchanges are the documented ones."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from apprentice.config import LocalConfig
from apprentice.config.local import ServerConfig
from apprentice.local.ollama import OllamaModel
from apprentice.testing.http_server import Request
from apprentice.testing.ollama_api import OllamaService
from apprentice.testing.transport import FrontierTransport
from apprentice_actors.ports import LocalFailure, Question
from tests.adapter_folders import write_adapter

BASE = "llama3.2"
OUTPUT = {"label": "bug", "at": 1}
SCHEMA = {
    "type": "object",
    "properties": {"label": {"enum": ["bug", "billing"]}, "at": {"type": "integer"}},
    "required": ["label"],
}
CONVERTER = """
import pathlib, sys
out = pathlib.Path(sys.argv[sys.argv.index("--outfile") + 1])
folder = pathlib.Path(sys.argv[-1])
if (folder / "adapter_model.safetensors").read_bytes() == b"broken":
    sys.exit("cannot map tensor")
runs = pathlib.Path(__file__).with_suffix(".runs")
runs.write_text((runs.read_text() if runs.exists() else "") + " ".join(sys.argv[1:3]) + "\\n")
out.write_bytes(b"GGUF" + (folder / "adapter_model.safetensors").read_bytes())
"""


def speak(messages: list[dict[str, Any]], adapter: bytes | None) -> str:
    return json.dumps(OUTPUT if adapter is not None else {"label": "billing"})


@pytest.fixture
def service() -> OllamaService:
    return OllamaService(speak, bases={BASE: "llama", "qwen3": "qwen3"})


@pytest.fixture
async def client(service):
    async with httpx.AsyncClient(transport=FrontierTransport(service, asyncio.sleep)) as made:
        yield made


@pytest.fixture
async def model(client, tmp_path):
    made = OllamaModel(config(tmp_path), client=client)
    yield made
    await made.aclose()


@pytest.fixture
def converter(tmp_path) -> Path:
    path = tmp_path / "convert_lora_to_gguf.py"
    path.write_text(CONVERTER)
    return path


def config(home: Path, base: str = BASE, **server: Any) -> LocalConfig:
    return LocalConfig(
        backend="ollama",
        base_model=base,
        fine_tune_backend="lora",
        model_dir=home,
        server=ServerConfig(**{"adapter_slots": 2, **server}),
    )


def folder_of(home: Path, number: int, base: str = BASE, weights: bytes | None = None) -> Path:
    folder = home / "tickets" / f"v{number}"
    write_adapter(folder, f"tickets@v{number}", base=base, weights=weights or f"weights {number}".encode())
    return folder


def ask(**more: Any) -> Question:
    return Question(task="tickets", input={"text": "it crashes"}, output_schema=SCHEMA, **more)


async def test_a_version_becomes_a_model_of_base_and_adapter(model, service, tmp_path):
    await model.load("tickets@v1", folder_of(tmp_path, 1))
    name = next(name for name in service.models if name.startswith("apprentice-"))
    assert name.startswith("apprentice-tickets:v1-")
    assert service.models[name]["adapter"] == b"weights 1"
    answer = await model.answer(ask(max_output_tokens=50), "tickets@v1")
    assert answer.output == OUTPUT
    sent = service.chats[-1]
    assert sent["model"] == name
    assert list(sent["format"]["properties"]) == ["label", "at"]
    assert sent["options"] == {"temperature": 0.0, "num_predict": 50, "repeat_penalty": 1.0}
    assert (sent["stream"], sent["truncate"], sent["think"], sent["logprobs"]) == (False, False, False, True)


async def test_an_unloaded_version_is_deleted(model, service, tmp_path):
    await model.load("tickets@v1", folder_of(tmp_path, 1))
    await model.unload("tickets@v1")
    assert [*service.models] == ["llama3.2:latest", "qwen3:latest"]


async def test_a_model_that_somebody_deleted_is_made_again(model, service, tmp_path):
    await model.load("tickets@v1", folder_of(tmp_path, 1))
    for name in [name for name in service.models if name.startswith("apprentice-")]:
        del service.models[name]
    assert (await model.answer(ask(), "tickets@v1")).output == OUTPUT


async def test_more_versions_than_places_answer_under_load(model, service, tmp_path):
    for number in (1, 2, 3):
        await model.load(f"tickets@v{number}", folder_of(tmp_path, number))
    found = await asyncio.gather(*(model.answer(ask(), f"tickets@v{1 + at % 3}") for at in range(30)))
    assert all(answer.output == OUTPUT for answer in found)
    assert len(service.models) - 2 <= 2


async def test_the_context_is_asked_for_where_it_is_configured(client, service, tmp_path):
    model = OllamaModel(config(tmp_path, context=2048), client=client)
    await model.answer(ask(), model.base)
    assert service.chats[-1]["options"]["num_ctx"] == 2048


async def test_the_base_is_the_model_itself(model, service):
    answer = await model.answer(ask(), model.base)
    assert (answer.output, answer.p_agree) == ({"label": "billing"}, 0.5)
    assert service.chats[-1]["model"] == BASE


async def test_an_error_under_status_200_is_a_failure(model, service, tmp_path):
    await model.load("tickets@v1", folder_of(tmp_path, 1))
    service.error_while_answering = "an error was encountered while running the model"
    with pytest.raises(LocalFailure, match=r"refused to answer .* while running the model"):
        await model.answer(ask(), "tickets@v1")


async def test_a_cut_off_answer_is_a_failure(model, service, tmp_path):
    await model.load("tickets@v1", folder_of(tmp_path, 1))
    service.done_reason = "length"
    with pytest.raises(LocalFailure, match="cut off"):
        await model.answer(ask(), "tickets@v1")


async def test_an_older_server_without_probabilities_is_as_sure_as_the_version_was_right(tmp_path):
    service = OllamaService(speak, bases={BASE: "llama"}, logprobs=False)
    async with httpx.AsyncClient(transport=FrontierTransport(service, asyncio.sleep)) as client:
        model = OllamaModel(config(tmp_path), client=client)
        await model.load("tickets@v1", folder_of(tmp_path, 1))
        answer = await model.answer(ask(), "tickets@v1")
    assert answer.p_agree == pytest.approx(31 / 32)


async def test_a_base_that_was_not_pulled_is_named(client, tmp_path):
    model = OllamaModel(config(tmp_path, "mistral"), client=client)
    with pytest.raises(LocalFailure, match="has no model mistral: run `ollama pull mistral`"):
        await model.load("tickets@v1", folder_of(tmp_path, 1, "mistral"))


async def test_nobody_there_is_a_failure_that_says_what_to_do(tmp_path):
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    async with httpx.AsyncClient(transport=httpx.MockTransport(refuse)) as client:
        model = OllamaModel(config(tmp_path), client=client)
        assert not await model.healthy()
        with pytest.raises(LocalFailure, match=r"cannot be reached at http://127\.0\.0\.1:11434: start it"):
            await model.load("tickets@v1", folder_of(tmp_path, 1))


# ---------------------------------------------------------------- families that Ollama does not convert


async def test_other_families_get_their_adapter_converted(client, service, converter, tmp_path):
    model = OllamaModel(config(tmp_path, "qwen3", lora_converter=converter), client=client)
    await model.load("tickets@v1", folder_of(tmp_path, 1, "qwen3"))
    (made,) = (model for name, model in service.models.items() if name.startswith("apprentice-"))
    assert made["adapter"] == b"GGUFweights 1"
    assert (tmp_path / "tickets" / "gguf" / "v1.gguf").exists()
    assert converter.with_suffix(".runs").read_text() == "--base-model-id qwen3\n"
    await model.unload("tickets@v1")
    assert not (tmp_path / "tickets" / "gguf").exists()


async def test_what_was_converted_is_used_again_unless_it_was_altered(client, converter, tmp_path):
    folder = folder_of(tmp_path, 1, "qwen3")
    for altered in (False, False, True):
        if altered:
            (tmp_path / "tickets" / "gguf" / "v1.gguf").write_bytes(b"GGUFweights X")
        model = OllamaModel(config(tmp_path, "qwen3", lora_converter=converter), client=client)
        await model.load("tickets@v1", folder)
        await model.aclose()
    assert converter.with_suffix(".runs").read_text().count("\n") == 2
    assert (tmp_path / "tickets" / "gguf" / "v1.gguf").read_bytes() == b"GGUFweights 1"


async def test_a_converter_that_fails_is_quoted(client, converter, tmp_path):
    model = OllamaModel(config(tmp_path, "qwen3", lora_converter=converter), client=client)
    with pytest.raises(LocalFailure, match=r"(?s)could not be converted to GGUF.*status 1.*cannot map tensor"):
        await model.load("tickets@v1", folder_of(tmp_path, 1, "qwen3", b"broken"))
    assert [path.name for path in (tmp_path / "tickets" / "gguf").iterdir()] == []


async def test_without_a_converter_the_key_is_named(client, tmp_path):
    model = OllamaModel(config(tmp_path, "qwen3"), client=client)
    with pytest.raises(LocalFailure, match=r"of the family qwen3: write .* local\.server\.lora_converter"):
        await model.load("tickets@v1", folder_of(tmp_path, 1, "qwen3"))


# ---------------------------------------------------------------- the imitation, held to the documentation


def exchange(service: OllamaService, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    response = service(Request(method, path, {}, content))
    return response.status, json.loads(response.body) if response.body.startswith(b"{") else response.body


def test_the_documented_exchanges():
    service = OllamaService(lambda messages, adapter: '{"age": 22, "available": false}', bases={"llama3.1": "llama"})
    digest = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    assert exchange(service, "HEAD", f"/api/blobs/{digest}") == (404, b"")
    assert exchange(service, "POST", f"/api/blobs/{digest}", b"other")[0] == 400
    assert exchange(service, "POST", f"/api/blobs/{digest}", b"hello") == (201, b"")
    assert exchange(service, "HEAD", f"/api/blobs/{digest}") == (200, b"")
    asked = {
        "model": "llama3.1",
        "messages": [{"role": "user", "content": "How old is it? Use JSON."}],
        "stream": False,
        "format": {"type": "object", "properties": {"age": {"type": "integer"}, "available": {"type": "boolean"}}},
        "options": {"temperature": 0},
    }
    status, answer = exchange(service, "POST", "/api/chat", asked)
    assert status == 200
    assert {*answer} == {
        *("model", "created_at", "message", "done_reason", "done", "total_duration", "load_duration"),
        *("prompt_eval_count", "prompt_eval_duration", "eval_count", "eval_duration"),
    }
    assert answer["message"] == {"role": "assistant", "content": '{"age": 22, "available": false}'}
    assert exchange(service, "POST", "/api/chat", {**asked, "model": "gone"}) == (
        404,
        {"error": "model 'gone' not found"},
    )
    adapters = {"adapters": {"adapter_model.safetensors": digest, "adapter_config.json": digest}, "stream": False}
    made = {"model": "mario", "from": "llama3.1", **adapters}
    assert exchange(service, "POST", "/api/create", made) == (200, {"status": "success"})
    two = {"a.gguf": digest, "b.gguf": digest}
    assert exchange(service, "POST", "/api/create", {**made, "adapters": two}) == (
        400,
        {"error": "only one adapter is currently supported"},
    )
    assert exchange(service, "DELETE", "/api/delete", {"model": "mario"}) == (200, b"")
    assert exchange(service, "DELETE", "/api/delete", {"model": "mario"})[0] == 404
    assert [each["name"] for each in exchange(service, "GET", "/api/tags")[1]["models"]] == ["llama3.1:latest"]
