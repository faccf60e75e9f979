"""What is sent to a vLLM server, and what is made of its answers; the real server is asked in the contract suite."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from apprentice.config import LocalConfig
from apprentice.config.local import ServerConfig
from apprentice.local.vllm import VllmModel, adapter_name, launch
from apprentice_actors.ports import LocalFailure, Question
from tests.adapter_folders import BASE, write_adapter

SCHEMA = {
    "type": "object",
    "properties": {"zeta": {"enum": ["bug", "billing"]}, "alpha": {"type": "integer"}},
    "required": ["zeta"],
}
OUTPUT = {"zeta": "bug", "alpha": 1}


class Vllm:
    """The routes of vLLM that are used, in memory."""

    def __init__(self) -> None:
        self.adapters: dict[str, str] = {}
        self.chats: list[dict[str, Any]] = []
        self.loads: list[str] = []
        self.most = 0
        self.text = json.dumps(OUTPUT, separators=(",", ":"))
        self.finish = "stop"
        self.status = 200
        self.served = BASE
        self.forgets_after: int | None = None
        self.broken: Exception | None = None
        self.hangs_up = 0

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0)
        if self.broken is not None:
            raise self.broken
        if self.hangs_up:
            self.hangs_up -= 1
            raise httpx.RemoteProtocolError("Server disconnected without sending a response.")
        body = json.loads(request.content) if request.content else {}
        match request.url.path:
            case "/v1/models":
                listed = [{"id": self.served, "root": BASE, "parent": None, "max_model_len": 512}]
                listed += [{"id": name, "root": root, "parent": BASE} for name, root in self.adapters.items()]
                return httpx.Response(200, json={"object": "list", "data": listed})
            case "/v1/load_lora_adapter":
                return self._load(body)
            case "/v1/unload_lora_adapter":
                if self.adapters.pop(body["lora_name"], None) is None:
                    return _error(404, "cannot be found")
                return httpx.Response(200, text="Success: removed")
            case "/v1/chat/completions":
                return self._chat(body)
        return httpx.Response(200)

    def _load(self, body: dict[str, Any]) -> httpx.Response:
        if body["lora_name"] in self.adapters:
            return _error(400, f"The lora adapter '{body['lora_name']}' has already been loaded.")
        if not Path(body["lora_path"]).is_dir():
            return _error(404, f"No adapter found for {body['lora_path']}")
        assert "load_inplace" not in body
        self.adapters[body["lora_name"]] = body["lora_path"]
        self.loads.append(body["lora_name"])
        self.most = max(self.most, len(self.adapters))
        return httpx.Response(200, text="Success: added")

    def _chat(self, body: dict[str, Any]) -> httpx.Response:
        self.chats.append(body)
        if self.forgets_after is not None and len(self.chats) > self.forgets_after:
            self.adapters.clear()
        if body["model"] not in {self.served, *self.adapters}:
            return _error(404, f"The model `{body['model']}` does not exist.")
        if self.status != 200:
            return _error(self.status, "something is wrong")
        tokens = [{"token": self.text, "logprob": -0.01, "bytes": list(self.text.encode())}]
        choice = {"message": {"role": "assistant", "content": self.text}, "finish_reason": self.finish}
        return httpx.Response(200, json={"choices": [{**choice, "logprobs": {"content": tokens}}]})


def _error(status: int, message: str) -> httpx.Response:
    return httpx.Response(status, json={"error": {"message": message, "type": "BadRequestError", "code": status}})


def config(home: Path, /, **more: Any) -> LocalConfig:
    server = ServerConfig(**{"adapter_slots": 2, **more})
    return LocalConfig(backend="vllm", base_model=BASE, fine_tune_backend="lora", model_dir=home, server=server)


@pytest.fixture
def vllm() -> Vllm:
    return Vllm()


@pytest.fixture
async def model(vllm, tmp_path):
    async with httpx.AsyncClient(transport=httpx.MockTransport(vllm)) as client:
        made = VllmModel(config(tmp_path), client=client)
        yield made
        await made.aclose()


def folder_of(home: Path, number: int, weights: bytes | None = None) -> Path:
    folder = home / "tickets" / f"v{number}"
    write_adapter(folder, f"tickets@v{number}", weights=weights or f"weights {number}".encode())
    return folder


def ask(text: str = "a secret text", **more: Any) -> Question:
    return Question(task="tickets", input={"text": text}, output_schema=SCHEMA, description="Sort it.", **more)


async def test_a_question_is_greedy_constrained_in_order_and_asks_for_probabilities(model, vllm, tmp_path):
    await model.load("tickets@v1", folder_of(tmp_path, 1))
    answer = await model.answer(ask(max_output_tokens=100), "tickets@v1")
    assert answer.output == OUTPUT
    assert answer.p_agree > 0.5
    sent = vllm.chats[-1]
    assert (sent["temperature"], sent["repetition_penalty"], sent["max_tokens"], sent["logprobs"]) == (0, 1, 100, True)
    schema = sent["response_format"]["json_schema"]["schema"]
    assert list(schema["properties"]) == ["zeta", "alpha"], "required ones first, not by the alphabet"
    assert [told["role"] for told in sent["messages"]] == ["system", "user"]


async def test_the_output_limit_stays_within_what_the_server_takes(model, vllm, tmp_path):
    await model.load("tickets@v1", folder_of(tmp_path, 1))
    await model.answer(ask(max_output_tokens=4000), "tickets@v1")
    assert vllm.chats[-1]["max_tokens"] == 512


async def test_a_task_without_a_schema_gets_any_object(model, vllm, tmp_path):
    await model.load("tickets@v1", folder_of(tmp_path, 1))
    await model.answer(Question(task="tickets", input={"text": "x"}), "tickets@v1")
    assert vllm.chats[-1]["response_format"]["json_schema"]["schema"] == {"type": "object"}


async def test_the_name_on_the_server_holds_the_digest_of_the_weights(model, vllm, tmp_path):
    digest = write_adapter(tmp_path / "v1", "tickets@v1")
    await model.load("tickets@v1", tmp_path / "v1", digest)
    assert [*vllm.adapters] == [f"tickets@v1-{digest[:12]}"]


async def test_loading_warms_up_with_the_form_of_the_task_and_nobodys_input(model, vllm, tmp_path):
    await model.load("tickets@v1", folder_of(tmp_path, 1))
    await model.answer(ask(), "tickets@v1")
    asked = len(vllm.chats)
    await model.load("tickets@v2", folder_of(tmp_path, 2))
    (warm_up,) = vllm.chats[asked:]
    assert warm_up["model"].startswith("tickets@v2-")
    assert warm_up["response_format"] == vllm.chats[asked - 1]["response_format"]
    assert "secret" not in json.dumps(warm_up)
    assert warm_up["messages"][0] == vllm.chats[asked - 1]["messages"][0]


async def test_a_warm_up_that_fails_leaves_nothing_behind(model, vllm, tmp_path):
    vllm.status = 500
    with pytest.raises(LocalFailure, match=r"tickets@v1 cannot be loaded: vLLM refused.*something is wrong"):
        await model.load("tickets@v1", folder_of(tmp_path, 1))
    assert vllm.adapters == {}
    assert model.loaded() == frozenset()


async def test_a_cut_off_answer_is_a_failure(model, vllm, tmp_path):
    await model.load("tickets@v1", folder_of(tmp_path, 1))
    vllm.finish = "length"
    with pytest.raises(LocalFailure, match="cut off"):
        await model.answer(ask(), "tickets@v1")


async def test_an_answer_that_is_no_object_is_a_failure_that_does_not_quote_it(model, vllm, tmp_path):
    await model.load("tickets@v1", folder_of(tmp_path, 1))
    vllm.text = "private words"
    with pytest.raises(LocalFailure, match="not JSON") as caught:
        await model.answer(ask(), "tickets@v1")
    assert "private" not in str(caught.value)


async def test_a_version_that_the_server_lost_is_brought_again_once(model, vllm, tmp_path):
    await model.load("tickets@v1", folder_of(tmp_path, 1))
    vllm.adapters.clear()
    found = await asyncio.gather(*(model.answer(ask(), "tickets@v1") for _ in range(10)))
    assert all(answer.output == OUTPUT for answer in found)
    assert len(vllm.loads) == 2


async def test_a_server_that_keeps_losing_it_is_a_failure(model, vllm, tmp_path):
    await model.load("tickets@v1", folder_of(tmp_path, 1))
    vllm.forgets_after = len(vllm.chats)
    with pytest.raises(LocalFailure, match="does not know tickets@v1"):
        await model.answer(ask(), "tickets@v1")


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (httpx.ConnectError("refused"), r"vLLM cannot be reached at http://127\.0\.0\.1:8000: start it there"),
        (httpx.ReadTimeout("slow"), "did not answer within"),
        (httpx.ReadError("gone"), r"the connection to vLLM .* broke \(ReadError\)"),
    ],
)
async def test_a_server_that_is_away_is_a_failure_in_plain_words(model, vllm, tmp_path, broken, words):
    await model.load("tickets@v1", folder_of(tmp_path, 1))
    vllm.broken = broken
    with pytest.raises(LocalFailure, match=words):
        await model.answer(ask(), "tickets@v1")
    assert not await model.healthy()
    with pytest.raises(LocalFailure, match=words):
        await model.load("tickets@v2", folder_of(tmp_path, 2))


async def test_a_connection_that_the_server_closes_just_now_is_no_failure(model, vllm, tmp_path):
    await model.load("tickets@v1", folder_of(tmp_path, 1))
    vllm.hangs_up = 1
    assert (await model.answer(ask(), "tickets@v1")).output == OUTPUT


async def test_three_versions_over_two_places_answer_under_load(model, vllm, tmp_path):
    for number in (1, 2, 3):
        await model.load(f"tickets@v{number}", folder_of(tmp_path, number))
    asked = (model.answer(ask(), f"tickets@v{1 + at % 3}") for at in range(60))
    found = await asyncio.gather(*asked)
    assert all(answer.output == OUTPUT for answer in found)
    assert vllm.most == 2
    assert model.loaded() == {"tickets@v1", "tickets@v2", "tickets@v3"}


async def test_what_was_altered_while_it_was_away_does_not_come_back(model, vllm, tmp_path):
    folders = [folder_of(tmp_path, number) for number in (1, 2, 3)]
    for number, folder in enumerate(folders, 1):
        await model.load(f"tickets@v{number}", folder)
    (folders[0] / "adapter_model.safetensors").write_bytes(b"weights X")
    with pytest.raises(LocalFailure, match=r"adapter_model\.safetensors has another sha256"):
        await model.answer(ask(), "tickets@v1")
    assert (await model.answer(ask(), "tickets@v2")).output == OUTPUT


async def test_a_name_stands_for_one_set_of_weights_for_ever(model, tmp_path):
    await model.load("tickets@v1", folder_of(tmp_path / "one", 1, b"these"))
    await model.unload("tickets@v1")
    with pytest.raises(LocalFailure, match="loaded before with other files"):
        await model.load("tickets@v1", folder_of(tmp_path / "two", 1, b"those"))


async def test_an_adapter_left_from_an_earlier_run_is_taken_as_it_is(model, vllm, tmp_path):
    digest = write_adapter(tmp_path / "v1", "tickets@v1")
    vllm.adapters[f"tickets@v1-{digest[:12]}"] = str(tmp_path / "v1")
    await model.load("tickets@v1", tmp_path / "v1")
    assert vllm.loads == []


async def test_one_left_from_another_folder_is_loaded_from_ours(model, vllm, tmp_path):
    digest = write_adapter(tmp_path / "v1", "tickets@v1")
    vllm.adapters[f"tickets@v1-{digest[:12]}"] = "/gone"
    await model.load("tickets@v1", tmp_path / "v1")
    assert vllm.adapters == {f"tickets@v1-{digest[:12]}": str(tmp_path / "v1")}


async def test_a_server_of_another_model_is_refused(model, vllm, tmp_path):
    vllm.served = "other/model"
    with pytest.raises(LocalFailure, match=r"serves other/model, not tiny/base; write its name .*server_model"):
        await model.load("tickets@v1", folder_of(tmp_path, 1))


async def test_the_base_is_asked_by_its_own_name(model, vllm):
    answer = await model.answer(ask(), model.base)
    assert (answer.output, answer.p_agree) == (OUTPUT, 0.5)
    assert vllm.chats[-1]["model"] == BASE


async def test_closing_leaves_somebody_elses_server_without_our_versions(model, vllm, tmp_path):
    await model.load("tickets@v1", folder_of(tmp_path, 1))
    assert len(vllm.adapters) == 1
    await model.aclose()
    assert vllm.adapters == {}


async def test_a_load_that_is_under_way_when_all_is_closed_leaves_nothing(model, vllm, tmp_path):
    loading = asyncio.create_task(model.load("tickets@v1", folder_of(tmp_path, 1)))
    await asyncio.sleep(0)
    await model.aclose()
    with pytest.raises(LocalFailure, match="closed"):
        await loading
    assert model.loaded() == frozenset()
    assert vllm.adapters == {}


async def test_the_server_is_told_where_it_sees_the_folder(vllm, tmp_path):
    seen = tmp_path / "seen"
    (seen / "tickets" / "v1").mkdir(parents=True)
    async with httpx.AsyncClient(transport=httpx.MockTransport(vllm)) as client:
        model = VllmModel(config(tmp_path / "ours", model_dir=seen), client=client)
        await model.load("tickets@v1", folder_of(tmp_path / "ours", 1))
        assert [*vllm.adapters.values()] == [str(seen / "tickets" / "v1")]
        elsewhere = folder_of(tmp_path / "elsewhere", 2)
        await model.load("tickets@v2", elsewhere)
        assert str(elsewhere) in vllm.adapters.values()
        await model.aclose()


async def test_a_folder_that_the_server_does_not_see_is_explained(vllm, tmp_path):
    async with httpx.AsyncClient(transport=httpx.MockTransport(vllm)) as client:
        model = VllmModel(config(tmp_path, model_dir=tmp_path / "nowhere"), client=client)
        with pytest.raises(LocalFailure, match=r"finds no adapter at .*local\.server\.model_dir"):
            await model.load("tickets@v1", folder_of(tmp_path, 1))
        await model.aclose()


# ---------------------------------------------------------------- the command of a managed server


def test_the_command_says_what_the_configuration_says(tmp_path):
    local = LocalConfig(
        backend="vllm",
        base_model="org/model",
        server_model="served",
        fine_tune_backend="lora",
        model_dir=tmp_path,
        quantization="4bit",
        dtype="bfloat16",
        server=ServerConfig(
            managed=True,
            adapter_slots=3,
            gpus=(1, 2),
            tensor_parallel=2,
            context=2048,
            args=("--enforce-eager",),
            environment={"HF_HOME": "/models"},
            start_timeout_s=30.0,
        ),
    )
    made = launch(local, "http://127.0.0.1:8123", None)
    words = " ".join(made.command[1:])
    assert words == (
        "serve org/model --host 127.0.0.1 --port 8123 --enable-lora --max-loras 3 --max-cpu-loras 3 --max-lora-rank 16 "
        "--dtype bfloat16 --served-model-name served --tensor-parallel-size 2 --max-model-len 2048 "
        "--quantization bitsandbytes --enforce-eager"
    )
    assert made.environment == {
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
        "HF_HOME": "/models",
        "CUDA_VISIBLE_DEVICES": "1,2",
    }
    assert made.start_timeout_s == 30.0


def test_a_configured_command_is_run_as_it_stands(tmp_path):
    local = config(tmp_path, managed=True, url="http://127.0.0.1:8000", command=("docker", "run", "vllm"))
    assert launch(local, "http://127.0.0.1:8000", None).command == ("docker", "run", "vllm")


def test_a_rank_between_those_that_vllm_knows_gets_the_next_larger(tmp_path):
    local = config(tmp_path, managed=True)
    local = local.model_copy(update={"training": local.training.model_copy(update={"rank": 12})})
    command = launch(local, "http://127.0.0.1:1", None).command
    assert command[command.index("--max-lora-rank") + 1] == "16"


def test_the_name_on_the_server_is_the_versions_and_a_digest(tmp_path):
    from apprentice.local.opened import open_version

    digest = write_adapter(tmp_path / "v1", "tickets@v1")
    assert adapter_name(open_version("tickets@v1", tmp_path / "v1", None, BASE)) == f"tickets@v1-{digest[:12]}"
