"""Real training of adapters for a tiny model, on the CPU: what it learns, and what happens when it is interrupted."""

import asyncio
import json
import os
import select
import signal
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from apprentice.config import LocalConfig
from apprentice.local.confidence import Card
from apprentice.training import lora
from apprentice.training.adapters.plan import PLAN, Plan
from apprentice.training.lora import LoraTrainer
from apprentice.training.process import PYTHON
from apprentice.training.stages import Stage, StagedTrainer
from apprentice.training.versions import check_manifest, read_manifest
from apprentice.training.work import state
from apprentice_actors.ports import Example, TrainedVersion, TrainingFailure, TrainingJob
from tests import tiny_llama

pytestmark = pytest.mark.heavy

FAST = {"rank": 8, "learning_rate": 0.01, "gradient_checkpointing": False}
HELD = tiny_llama.examples(40, seed=2)
ROWS = tiny_llama.examples(160, seed=1, avoid=[row.input for row in HELD])


@pytest.fixture(scope="module")
def base() -> Path:
    return tiny_llama.cached_base()


def trainer(base: Path, **training: Any) -> LoraTrainer:
    told = {"backend": "transformers", "fine_tune_backend": "lora", "base_model": str(base)}
    return LoraTrainer(LocalConfig.model_validate({**told, "training": {**FAST, **training}}))


def job(
    home: Path, number: int = 1, *, rows: list[Example] = ROWS, parent: int | None = None, seed: int = 7
) -> TrainingJob:
    for name, content in (("train", rows), ("held", HELD)):
        (home / f"{name}.jsonl").write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in content))
    return TrainingJob(
        job=f"job-{number}",
        task=tiny_llama.TASK,
        version=f"tickets@v{number}",
        parent=f"tickets@v{parent}" if parent else None,
        parent_folder=str(folder(home, parent)) if parent else None,
        folder=str(folder(home, number)),
        train_file=str(home / "train.jsonl"),
        calibration_file=str(home / "held.jsonl"),
        output_schema=tiny_llama.SCHEMA,
        match_fields=(),
        seed=seed,
        description=tiny_llama.DESCRIPTION,
    )


def folder(home: Path, number: int) -> Path:
    return home / "tickets" / f"v{number}"


def nowhere(fraction: float, message: str) -> None:
    """Progress that nobody looks at."""


def weights(home: Path, number: int) -> str:
    return read_manifest(folder(home, number))[0].files["adapter_model.safetensors"].sha256


def words(home: Path, number: int) -> dict[str, Any]:
    return json.loads((folder(home, number) / "metrics.json").read_bytes())


# ---------------------------------------------------------------- whole trainings


async def test_two_processes_learn_a_new_rule_and_a_second_version_continues(base, tmp_path):
    told: list[str] = []
    made = await trainer(base, processes=2, epochs=10).train(
        job(tmp_path, 1), lambda fraction, message: told.append(message)
    )
    manifest = check_manifest(folder(tmp_path, 1), made.manifest_sha256)
    assert set(manifest.files) == {
        *("adapter_model.safetensors", "adapter_config.json", "confidence.json", "metrics.json", "loss.png"),
    }
    assert manifest.base == str(base)
    assert made.metrics["processes"] == 2.0
    assert made.metrics["agreement_holdout"] >= 0.9
    assert made.metrics["rows_holdout"] == 40.0
    assert 0.0 <= made.metrics["calibration_error"] <= 0.2
    assert made.metrics["tokens_per_second"] > 0.0
    card = Card.load(folder(tmp_path, 1))
    assert (card.rows, card.agreement) == (40, made.metrics["agreement_holdout"])
    config = json.loads((folder(tmp_path, 1) / "adapter_config.json").read_bytes())
    assert config["r"] == 8
    assert config["modules_to_save"] is None
    course = words(tmp_path, 1)
    assert course["losses"][0]["loss"] > 5 * course["losses"][-1]["loss"]
    assert len(course["evaluations"]) >= 5
    assert (folder(tmp_path, 1) / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert any(message.startswith("step 1 of") for message in told)
    assert any(message.startswith("held-out row") for message in told)

    again = await trainer(base, max_steps=1).train(job(tmp_path, 2, parent=1), nowhere)
    assert again.metrics["continued"] == 1.0
    assert words(tmp_path, 2)["losses"][0]["loss"] < 0.5 * course["losses"][0]["loss"]
    await _measured_alone(base, tmp_path, made)
    other = await trainer(base, max_steps=1, rank=4).train(job(tmp_path, 3, parent=1), nowhere)
    assert other.metrics["continued"] == 0.0
    assert words(tmp_path, 3)["words"]["from_scratch"] == "tickets@v1 has another r"
    assert sorted(path.name for path in (tmp_path / "tickets").iterdir()) == ["v1", "v2", "v3", "v4"]


async def _measured_alone(base: Path, home: Path, made: TrainedVersion) -> None:
    """The adapter of version 1, as if another program had made it: measured alike and written as version 4."""
    course = home / "course.json"
    course.write_bytes(msgspec.json.encode({"seed": 1, "counts": {"rows_train": 160.0}}))

    def stages(plan: Plan) -> list[Stage]:
        words = ("-m", "apprentice.training.adapters.measure", str(Path(plan.work) / PLAN), str(folder(home, 1)))
        return [Stage((*PYTHON, *words, str(course)), lora.surroundings(plan))]

    measuring = StagedTrainer(trainer(base)._local, stages)
    again = await measuring.train(job(home, 4), nowhere)
    for name in ("agreement_holdout", "calibration_error"):
        assert again.metrics[name] == pytest.approx(made.metrics[name], abs=1e-6)
    assert weights(home, 4) == weights(home, 1)
    assert Card.load(folder(home, 4)).rows == 40


async def test_a_job_killed_in_the_middle_goes_on_and_ends_with_the_same_weights(base, tmp_path):
    settings = {"max_steps": 12, "save_steps": 4, "dropout": 0.1, "processes": 2}
    whole = tmp_path / "whole"
    whole.mkdir()
    await trainer(base, **settings).train(job(whole), nowhere)

    def kill(fraction: float, message: str) -> None:
        if message.startswith("step 7 of"):
            os.kill(workers(tmp_path, rank=1)[0], signal.SIGKILL)

    with pytest.raises(TrainingFailure, match=r"killed \(SIGKILL\).*its last checkpoint is kept"):
        await trainer(base, **settings).train(job(tmp_path, 1), kill)
    assert state(tmp_path / "tickets" / ".v1.work")["step"] == 4
    told: list[str] = []
    await trainer(base, **settings).train(job(tmp_path, 2, seed=99), lambda fraction, message: told.append(message))
    assert "going on from step 4" in told
    assert not any(message.startswith("step 4 of") for message in told)
    assert weights(tmp_path, 2) == weights(whole, 1)
    assert [point["step"] for point in words(tmp_path, 2)["losses"]] == list(range(1, 13))
    assert sorted(path.name for path in (tmp_path / "tickets").iterdir()) == ["v2"]


def workers(home: Path, rank: int | None = None) -> list[int]:
    """The worker processes of the job in this folder; only one of several with a ``rank``."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            command = (path / "cmdline").read_bytes().split(b"\0")
            environment = (path / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        module = [b"-m", b"apprentice.training.adapters.worker"]
        ours = module in (command[1:3], command[2:4])
        here = any(word.startswith(bytes(home)) for word in command)
        if ours and here and (rank is None or f"RANK={rank}".encode() in environment):
            found.append(int(path.name))
    return found


async def test_training_stops_when_the_loss_of_the_slice_no_longer_falls(base, tmp_path):
    await trainer(base, epochs=40, learning_rate=0.1, early_stopping=2).train(job(tmp_path), nowhere)
    course = words(tmp_path, 1)
    assert course["words"]["ended_by"] == "early_stopping"
    losses = [point["loss"] for point in course["evaluations"]]
    assert min(losses) == losses[-3]
    assert course["counts"]["best_step"] == course["evaluations"][-3]["step"]


async def test_two_processes_take_the_same_steps_as_one_with_twice_the_batch(base, tmp_path):
    alike = {"dropout": 0.0, "max_steps": 4, "early_stopping": 0}
    await trainer(base, processes=2, batch_size=3, **alike).train(job(tmp_path, 1), nowhere)
    await trainer(base, batch_size=6, packing=False, **alike).train(job(tmp_path, 2), nowhere)
    both = [[point["loss"] for point in words(tmp_path, number)["losses"]] for number in (1, 2)]
    assert both[0] == pytest.approx(both[1], rel=1e-3)


async def test_a_worker_says_plainly_what_it_cannot_do(base, tmp_path):
    with pytest.raises(TrainingFailure, match="quantization: 4bit needs a CUDA GPU and the package bitsandbytes"):
        await trainer(base, quantization="4bit").train(job(tmp_path), nowhere)
    assert not (tmp_path / "tickets" / ".v1.work").exists()


TRAINS_FOR_EVER = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import test_lora
made = test_lora.trainer(Path(sys.argv[1]), epochs=100_000, save_steps=2)
told = lambda fraction, message: print(message, flush=True)
asyncio.run(made.train(test_lora.job(Path(sys.argv[3])), told))
"""


async def test_workers_end_with_the_process_that_asked_for_them_and_the_checkpoint_stays(base, tmp_path):
    command = (sys.executable, "-c", TRAINS_FOR_EVER, str(base), str(Path(__file__).parent), str(tmp_path))
    asking = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert asking.stdout is not None
    while not (line := await asking.stdout.readline()).startswith(b"step 3 of"):
        assert line, "it ended before the third step"
    watched = [os.pidfd_open(pid) for pid in workers(tmp_path)]
    assert watched
    asking.kill()
    await asking.wait()
    while watched:  # a descriptor of a process becomes readable when it ends
        ended, _, _ = await asyncio.to_thread(select.select, watched, [], [], 60.0)
        assert ended, "a worker outlived the process that asked for it"
        for each in ended:
            os.close(each)
            watched.remove(each)
    assert state(tmp_path / "tickets" / ".v1.work")["step"] >= 2
