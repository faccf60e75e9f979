"""The real servers beyond the contract: killed, crowded, swapped under load, and all saying the same."""

import asyncio
import os
import signal
from pathlib import Path

import psutil
import pytest

from apprentice.backends import make_local
from apprentice.local.managed import ManagedServer
from apprentice_actors.ports import LocalFailure, LocalModel, Question
from benchmarks import swap_bench
from tests import real_servers, tiny_adapters, tiny_llama

pytestmark = [pytest.mark.heavy, pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.*:FutureWarning")]

CONFIGS = {
    "transformers": real_servers.transformers_config,
    "llama_cpp": real_servers.llama_config,
    "vllm": real_servers.vllm_config,
}
PATIENCE_S = 240.0


@pytest.fixture(params=CONFIGS)
async def model(request, tmp_path):
    made = make_local(CONFIGS[request.param](tmp_path))
    yield made
    await made.aclose()


def write(home: Path, number: int, rule: int) -> Path:
    folder = home / tiny_llama.TASK / f"v{number}"
    source = tiny_adapters.adapter(tiny_adapters.tickets(rule))
    tiny_adapters.write(folder, f"{tiny_llama.TASK}@v{number}", source, base=str(tiny_llama.cached_base()))
    return folder


async def load(model: LocalModel, home: Path, number: int, rule: int) -> None:
    await model.load(f"{tiny_llama.TASK}@v{number}", write(home, number, rule))


async def right(model: LocalModel, version: str, rule: int, count: int = 40) -> float:
    """The share of tickets that are answered by a rule."""
    rows = tiny_llama.examples(count, seed=77)
    answers = await asyncio.gather(*(model.answer(tiny_llama.question(row.input), version) for row in rows))
    expected = [tiny_llama.answer(row.input, rule) for row in rows]
    return sum(answer.output == wanted for answer, wanted in zip(answers, expected, strict=True)) / count


async def until(condition, patience_s: float = PATIENCE_S) -> None:
    """Wait for something that processes bring about; asking for it takes long enough."""
    async with asyncio.timeout(patience_s):
        while not await condition():
            await asyncio.to_thread(os.sched_yield)


def serving(managed: ManagedServer, program: str) -> int:
    """The process of a server, beneath the leash."""
    leash = psutil.Process(managed.pid)
    return next(each.pid for each in leash.children(recursive=True) if program in " ".join(each.cmdline()))


async def test_each_version_answers_by_its_own_rule_and_the_base_by_none_of_them(model, tmp_path):
    for number, rule in ((1, 1), (2, 2)):
        await load(model, tmp_path, number, rule)
    assert await right(model, "tickets@v1", 1) >= 0.8
    assert await right(model, "tickets@v2", 2) >= 0.8
    assert model.base is not None
    assert await right(model, model.base, 0) >= 0.9
    assert await right(model, model.base, 1) <= 0.1


async def test_an_input_that_does_not_fit_is_a_failure_of_that_request_alone(model, tmp_path):
    await load(model, tmp_path, 1, 1)
    long = Question(task="tickets", input={"text": "word " * 20_000}, output_schema=tiny_llama.SCHEMA)
    with pytest.raises(LocalFailure):
        await model.answer(long, "tickets@v1")
    assert await right(model, "tickets@v1", 1) >= 0.8


async def test_an_answer_over_the_limit_is_a_failure(model, tmp_path):
    await load(model, tmp_path, 1, 1)
    short = tiny_llama.examples(1)[0].input
    question = Question(task="tickets", input=short, output_schema=tiny_llama.SCHEMA, max_output_tokens=3)
    with pytest.raises(LocalFailure, match="cut off"):
        await model.answer(question, "tickets@v1")


async def test_all_servers_are_equally_sure(tmp_path):
    """The same weights give the same probabilities, whoever computes them; vLLM does it in bfloat16."""
    sure: dict[str, list[float]] = {}
    said: dict[str, list[str]] = {}
    for name, config in CONFIGS.items():
        home = tmp_path / name
        model = make_local(config(home))
        await load(model, home, 1, 1)
        rows = tiny_llama.examples(30, seed=5)
        answers = [await model.answer(tiny_llama.question(row.input), "tickets@v1") for row in rows]
        await model.aclose()
        sure[name] = [answer.p_agree for answer in answers]
        said[name] = [str(answer.output) for answer in answers]
    assert sum(left != right for left, right in zip(said["llama_cpp"], said["transformers"], strict=True)) <= 1
    assert sum(left != right for left, right in zip(said["vllm"], said["transformers"], strict=True)) <= 2
    for name in ("llama_cpp", "vllm"):
        apart = [abs(left - right) for left, right in zip(sure[name], sure["transformers"], strict=True)]
        assert sorted(apart)[len(apart) // 2] <= 0.02, name


# ---------------------------------------------------------------- vLLM


async def test_more_versions_than_places_on_the_real_vllm(tmp_path):
    local = real_servers.vllm_config(tmp_path)
    crowded = local.model_copy(update={"server": local.server.model_copy(update={"adapter_slots": 2})})
    model = make_local(crowded)
    for number in (1, 2, 3):
        await load(model, tmp_path, number, number)
    shares = await asyncio.gather(*(right(model, f"tickets@v{number}", number, 20) for number in (1, 2, 3, 1, 2, 3)))
    assert min(shares) >= 0.7
    await model.aclose()


async def test_versions_take_over_on_the_real_vllm_under_load_without_a_failed_request(tmp_path):
    found = await swap_bench.measure(real_servers.vllm_config(tmp_path), swaps=4, callers=8, every_s=2.0)
    assert found.errors == []
    assert len(found.swaps) == 4
    assert sum(each.right for each in found.requests) / len(found.requests) >= 0.8
    row = found.row("vllm")
    assert row["load_ms"] < 10_000


async def test_a_killed_vllm_comes_back_with_its_versions(tmp_path):
    model = make_local(real_servers.vllm_config(tmp_path, managed=True))
    await load(model, tmp_path, 1, 1)
    await load(model, tmp_path, 2, 2)
    server = model._managed
    before = serving(server, "vllm")
    os.kill(before, signal.SIGKILL)

    async def noticed() -> bool:
        return not await model.healthy()

    await until(noticed)
    with pytest.raises(LocalFailure, match="started again"):  # at once, so that the remote model is asked
        async with asyncio.timeout(5.0):
            await model.answer(tiny_llama.question(tiny_llama.examples(1)[0].input), "tickets@v1")
    await until(model.healthy)
    assert await right(model, "tickets@v1", 1) >= 0.8
    assert await right(model, "tickets@v2", 2) >= 0.8
    after = serving(server, "vllm")
    await model.aclose()
    assert not psutil.pid_exists(after)


# ---------------------------------------------------------------- llama.cpp


async def test_versions_take_over_on_llama_cpp_under_load_without_a_failed_request(tmp_path):
    found = await swap_bench.measure(real_servers.llama_config(tmp_path), swaps=3, callers=8, every_s=2.0)
    assert found.errors == []
    assert sum(each.right for each in found.requests) / len(found.requests) >= 0.8


async def test_a_killed_llama_server_comes_back_with_the_versions_of_the_moment(tmp_path):
    model = make_local(real_servers.llama_config(tmp_path))
    for number in (1, 2):
        await load(model, tmp_path, number, number)
    await model.unload("tickets@v1")  # its file is gone: the command of the restart must not name it
    os.kill(serving(model._process.managed, "llama-server"), signal.SIGKILL)

    async def back() -> bool:
        try:
            return await right(model, "tickets@v2", 2) >= 0.8
        except LocalFailure:
            return False

    await until(back)
    await model.aclose()


async def test_no_server_is_left_after_closing_while_versions_change(tmp_path):
    model = make_local(real_servers.llama_config(tmp_path))
    await load(model, tmp_path, 1, 1)
    changing = asyncio.create_task(load(model, tmp_path, 2, 2))
    await asyncio.sleep(0)
    await model.aclose()
    await asyncio.gather(changing, return_exceptions=True)
    mine = psutil.Process().children(recursive=True)
    assert [each for each in mine if "llama-server" in " ".join(each.cmdline())] == []


# ---------------------------------------------------------------- transformers


async def test_waiting_requests_are_answered_together(tmp_path, monkeypatch):
    model = make_local(real_servers.transformers_config(tmp_path))
    await load(model, tmp_path, 1, 1)
    batches: list[int] = []
    write_batch = model._generator.answer
    monkeypatch.setattr(
        model._generator, "answer", lambda asked, version: batches.append(len(asked)) or write_batch(asked, version)
    )
    assert await right(model, "tickets@v1", 1, 40) >= 0.8
    assert max(batches) == 8
    assert len(batches) <= 7
    await model.aclose()


async def test_quantization_without_a_gpu_says_so(tmp_path):
    local = real_servers.transformers_config(tmp_path).model_copy(update={"quantization": "4bit"})
    model = make_local(local)
    with pytest.raises(LocalFailure, match="4bit` needs a CUDA GPU"):
        await load(model, tmp_path, 1, 1)
    await model.aclose()
