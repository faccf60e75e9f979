"""What every local model does, the scripted one included."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from apprentice.backends import make_local
from apprentice.config import LocalConfig
from apprentice.local.embedded import EmbeddedModel
from apprentice.local.ollama import OllamaModel
from apprentice.local.student import Settings, train
from apprentice.system import SystemClock
from apprentice.testing.models import ScriptedLocalModel, ScriptedTrainer
from apprentice.testing.ollama_api import OllamaService
from apprentice.testing.transport import FrontierTransport
from apprentice.training.versions import check_manifest
from apprentice_actors.ports import Example, LocalFailure, LocalModel, Question, TrainingJob
from tests import embedded_version, real_servers, tiny_adapters, tiny_llama
from tests.adapter_folders import BASE, write_adapter

LABELS = ("billing", "technical")
"""Words that the tiny language model has seen."""
TEXTS = ("the invoice is wrong", "it crashes on start", "please refund the charge", "an error on every page")

type Maker = Callable[[str, Path, str], Awaitable[None]]
"""Writes a version into a folder. The last argument is the answer that it gives to everything, if not empty."""


def truth(question: Question) -> dict[str, Any]:
    return {"category": LABELS[TEXTS.index(question.input["text"]) % 2]}


def examples(answer: str) -> list[Example]:
    return [
        Example(
            request=f"r{at}", input={"text": f"{TEXTS[at % 4]} {at}"}, output={"category": answer or LABELS[at % 2]}
        )
        for at in range(40)
    ]


async def make_embedded(version: str, folder: Path, answer: str) -> None:
    student, _ = train(examples(answer), [], schema=None, match_fields=(), settings=Settings())
    embedded_version.write(folder, student, version)


async def make_scripted(version: str, folder: Path, answer: str) -> None:
    files = [folder.parent / f"{folder.name}-{name}.jsonl" for name in ("train", "held-out")]
    for file, rows in zip(files, (examples(""), []), strict=True):
        file.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
    job = TrainingJob(
        job="j",
        task="tickets",
        version=version,
        parent=None,
        parent_folder=None,
        folder=str(folder),
        train_file=str(files[0]),
        calibration_file=str(files[1]),
        output_schema=None,
        match_fields=(),
        seed=0,
    )
    # A poisoned version is one that answers otherwise than the remote: here the other label.
    trainer = ScriptedTrainer(SystemClock(), ("poisoned" if answer else "perfect",), seconds=0.0)
    await trainer.train(job, lambda fraction, message: None)


async def make_adapter(version: str, folder: Path, answer: str) -> None:
    write_adapter(folder, version, weights=answer.encode() or b"truth")


async def make_tiny(version: str, folder: Path, answer: str) -> None:
    rows = [(ask(row.input["text"]), row.output) for row in examples(answer)]
    rows += [(ask(text), {"category": answer or LABELS[at % 2]}) for at, text in enumerate(TEXTS)]
    tiny_adapters.write(folder, version, tiny_adapters.adapter(rows), base=str(tiny_llama.cached_base()))


def spoken(messages: list[dict[str, Any]], adapter: bytes | None) -> str:
    """What the imitated server says: the truth, or what stands in the adapter."""
    told = json.loads(messages[-1]["content"])
    if adapter in (None, b"truth"):
        return json.dumps(truth(Question(task="tickets", input=told)) if told else {})
    return json.dumps({"category": str(adapter, "utf-8")})


@asynccontextmanager
async def embedded(home: Path) -> AsyncIterator[LocalModel]:
    yield EmbeddedModel()


@asynccontextmanager
async def scripted(home: Path) -> AsyncIterator[LocalModel]:
    yield ScriptedLocalModel(truth, SystemClock(), latency_s=0.0)


@asynccontextmanager
async def ollama(home: Path) -> AsyncIterator[LocalModel]:
    service = OllamaService(spoken, bases={BASE: "llama"})
    config = LocalConfig(backend="ollama", base_model=BASE, fine_tune_backend="lora", model_dir=home)
    async with httpx.AsyncClient(transport=FrontierTransport(service, asyncio.sleep)) as client:
        yield OllamaModel(config, client=client)


@asynccontextmanager
async def transformers(home: Path) -> AsyncIterator[LocalModel]:
    yield make_local(real_servers.transformers_config(home))


@asynccontextmanager
async def llama_cpp(home: Path) -> AsyncIterator[LocalModel]:
    yield make_local(real_servers.llama_config(home))


@asynccontextmanager
async def vllm(home: Path) -> AsyncIterator[LocalModel]:
    yield make_local(real_servers.vllm_config(home))


type Opener = Callable[[Path], AbstractAsyncContextManager[LocalModel]]
MODELS: dict[str, tuple[Opener, Maker]] = {
    "embedded": (embedded, make_embedded),
    "scripted": (scripted, make_scripted),
    "ollama": (ollama, make_adapter),
    "transformers": (transformers, make_tiny),
    "llama_cpp": (llama_cpp, make_tiny),
    "vllm": (vllm, make_tiny),
}
REAL = ("transformers", "llama_cpp", "vllm")
"""Language models: whoever is answered together with others gets probabilities that differ in the last digits."""
HEAVY = (pytest.mark.heavy, pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.*:FutureWarning"))


@pytest.fixture(params=[pytest.param(name, marks=HEAVY if name in REAL else ()) for name in MODELS])
async def pair(request, tmp_path):
    opened, make = MODELS[request.param]
    async with opened(tmp_path) as model:
        yield model, make
        await model.aclose()


def ask(text: str = TEXTS[0]) -> Question:
    properties = {"category": {"enum": list(LABELS)}}
    schema = {"type": "object", "properties": properties, "required": ["category"], "additionalProperties": False}
    return Question(task="tickets", input={"text": text}, output_schema=schema)


async def test_a_loaded_version_answers(pair, tmp_path):
    model, make = pair
    await make("tickets@v1", tmp_path / "v1", "")
    assert model.loaded() == frozenset()
    await model.load("tickets@v1", tmp_path / "v1")
    assert model.loaded() == {"tickets@v1"}
    for text in TEXTS:
        answer = await model.answer(ask(text), "tickets@v1")
        assert answer.output == truth(ask(text))
        assert 0.5 < answer.p_agree < 1.0
        assert answer.latency_ms >= 0.0


async def test_the_same_question_gets_the_same_answer(pair, tmp_path, request):
    model, make = pair
    await make("tickets@v1", tmp_path / "v1", "")
    await model.load("tickets@v1", tmp_path / "v1")
    answers = await asyncio.gather(*(model.answer(ask(), "tickets@v1") for _ in range(20)))
    assert {str(answer.output) for answer in answers} == {str(answers[0].output)}
    spread = max(answer.p_agree for answer in answers) - min(answer.p_agree for answer in answers)
    assert spread <= (0.01 if request.node.callspec.params["pair"] in REAL else 0.0)


async def test_an_untrained_base_answers_without_loading_and_does_not_know_how_well(pair):
    model, _ = pair
    if model.base is None:
        return
    answer = await model.answer(ask(), model.base)
    assert answer.p_agree == 0.5
    assert model.base not in model.loaded()


async def test_an_unknown_version_is_a_failure_that_names_it(pair):
    model, _ = pair
    with pytest.raises(LocalFailure, match="tickets@v9 is not loaded"):
        await model.answer(ask(), "tickets@v9")


async def test_versions_answer_side_by_side(pair, tmp_path):
    model, make = pair
    await make("tickets@v1", tmp_path / "v1", "")
    await make("tickets@v2", tmp_path / "v2", LABELS[1])
    for number in (1, 2):
        await model.load(f"tickets@v{number}", tmp_path / f"v{number}")
    first = await model.answer(ask(), "tickets@v1")
    second = await model.answer(ask(), "tickets@v2")
    assert first.output == {"category": "billing"}
    assert second.output == {"category": "technical"}
    assert model.loaded() == {"tickets@v1", "tickets@v2"}


async def test_loading_a_loaded_name_does_nothing(pair, tmp_path):
    model, make = pair
    await make("tickets@v1", tmp_path / "v1", "")
    await model.load("tickets@v1", tmp_path / "v1")
    await model.load("tickets@v1", tmp_path / "gone")
    assert (await model.answer(ask(), "tickets@v1")).output == truth(ask())


async def test_an_unloaded_version_is_gone_and_unknown_ones_are_ignored(pair, tmp_path):
    model, make = pair
    await make("tickets@v1", tmp_path / "v1", "")
    await model.load("tickets@v1", tmp_path / "v1")
    await model.unload("tickets@v1")
    await model.unload("tickets@v1")
    assert model.loaded() == frozenset()
    with pytest.raises(LocalFailure):
        await model.answer(ask(), "tickets@v1")
    await model.load("tickets@v1", tmp_path / "v1")
    assert model.loaded() == {"tickets@v1"}


async def test_a_damaged_version_is_not_loaded_and_the_file_is_named(pair, tmp_path):
    model, make = pair
    await make("tickets@v1", tmp_path / "v1", "")
    name = sorted(check_manifest(tmp_path / "v1").files)[-1]
    path = tmp_path / "v1" / name
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)
    with pytest.raises(LocalFailure, match=name):
        await model.load("tickets@v1", tmp_path / "v1")
    assert model.loaded() == frozenset()


async def test_a_missing_folder_is_a_failure(pair, tmp_path):
    model, _ = pair
    with pytest.raises(LocalFailure, match=r"manifest\.json cannot be read"):
        await model.load("tickets@v1", tmp_path / "v1")


async def test_a_folder_of_another_version_is_refused(pair, tmp_path):
    model, make = pair
    await make("tickets@v1", tmp_path / "v1", "")
    with pytest.raises(LocalFailure, match=r"holds tickets@v1.*not tickets@v2"):
        await model.load("tickets@v2", tmp_path / "v1")


async def test_a_closed_model_answers_and_loads_nothing(pair, tmp_path):
    model, make = pair
    await make("tickets@v1", tmp_path / "v1", "")
    await model.load("tickets@v1", tmp_path / "v1")
    assert await model.healthy()
    await model.aclose()
    await model.aclose()
    assert not await model.healthy()
    assert model.loaded() == frozenset()
    with pytest.raises(LocalFailure):
        await model.answer(ask(), "tickets@v1")
    with pytest.raises(LocalFailure, match="closed"):
        await model.load("tickets@v1", tmp_path / "v1")


# ---------------------------------------------------------------- what only one of them does


async def test_the_embedded_model_refuses_versions_of_other_kinds(tmp_path):
    await make_scripted("tickets@v1", tmp_path / "v1", "")
    model = EmbeddedModel()
    with pytest.raises(LocalFailure, match="of scripted, not tickets@v1 of embedded"):
        await model.load("tickets@v1", tmp_path / "v1")
    await model.aclose()


async def test_a_long_input_does_not_hold_up_the_event_loop(tmp_path):
    await make_embedded("tickets@v1", tmp_path / "v1", "")
    model = EmbeddedModel()
    await model.load("tickets@v1", tmp_path / "v1")
    quick = asyncio.create_task(model.answer(ask("a crash"), "tickets@v1"))
    long = asyncio.create_task(model.answer(ask("a crash " * 20_000), "tickets@v1"))
    await asyncio.sleep(0)
    assert quick.done()
    assert not long.done()
    assert (await long).output == {"category": "technical"}
    await model.aclose()


async def test_the_scripted_model_can_be_taken_down(tmp_path):
    model = ScriptedLocalModel(truth, SystemClock(), latency_s=0.0)
    await make_scripted("tickets@v1", tmp_path / "v1", "")
    await model.load("tickets@v1", tmp_path / "v1")
    model.down = True
    assert not await model.healthy()
    with pytest.raises(LocalFailure, match="down"):
        await model.answer(ask(), "tickets@v1")
    model.down = False
    assert (await model.answer(ask(), "tickets@v1")).output == truth(ask())
