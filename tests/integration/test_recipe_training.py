"""Real training with TRL on a tiny model: what it learns, in how many processes, and after a kill."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from apprentice.config import LocalConfig
from apprentice.local.confidence import Card
from apprentice.training.recipes import RecipeTrainer, Tool
from apprentice.training.versions import check_manifest
from apprentice_actors.ports import TrainingFailure, TrainingJob
from tests import tiny_llama

pytestmark = pytest.mark.heavy

FAST = {"rank": 8, "learning_rate": 0.01, "gradient_checkpointing": False, "batch_size": 2}
HELD = tiny_llama.examples(30, seed=2)
ROWS = tiny_llama.examples(120, seed=1, avoid=[row.input for row in HELD])
PACKING = """
import sys, msgspec
from pathlib import Path
from apprentice.training.recipes_settings import Recipe
from apprentice.training.recipes_trl import make_trainer
recipe = Recipe.read(Path(sys.argv[1]))
for packing in (True, False):
    one = msgspec.structs.replace(recipe, packing=packing, batch_size=64)
    trainer = make_trainer(one, [])
    print(len(trainer.eval_dataset), repr(trainer.evaluate()["eval_loss"]))
"""


def trainer(tool: Tool = "huggingface", **training: Any) -> RecipeTrainer:
    told = {"backend": "transformers", "fine_tune_backend": tool, "base_model": str(tiny_llama.cached_base())}
    return RecipeTrainer(LocalConfig.model_validate({**told, "training": {**FAST, **training}}), tool)


def job(home: Path, number: int = 1, *, parent: int | None = None) -> TrainingJob:
    for name, content in (("train", ROWS), ("held", HELD)):
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
        seed=7,
        description=tiny_llama.DESCRIPTION,
    )


def folder(home: Path, number: int) -> Path:
    return home / "tickets" / f"v{number}"


def course(home: Path, number: int) -> dict[str, Any]:
    return json.loads((folder(home, number) / "metrics.json").read_bytes())


def nowhere(fraction: float, message: str) -> None:
    """Progress that nobody looks at."""


async def test_two_processes_learn_a_new_rule_after_a_kill_and_a_second_version_continues(tmp_path):
    settings = {"processes": 2, "epochs": 8, "save_steps": 4}

    def kill(fraction: float, message: str) -> None:
        if message.startswith("step 6 of"):
            kill_one_worker(tmp_path)

    with pytest.raises(TrainingFailure, match=r"killed \(SIGKILL\).*its last checkpoint is kept"):
        await trainer(**settings).train(job(tmp_path), kill)
    told: list[str] = []
    made = await trainer(**settings).train(job(tmp_path, 2), lambda fraction, message: told.append(message))
    steps = [message for message in told if message.startswith("step ")]
    assert steps[0].startswith("step 5 of")
    manifest = check_manifest(folder(tmp_path, 2), made.manifest_sha256)
    names = {"adapter_model.safetensors", "adapter_config.json", "confidence.json", "metrics.json", "loss.png"}
    assert set(manifest.files) == names
    assert manifest.base == str(tiny_llama.cached_base())
    assert made.metrics["processes"] == 2.0
    assert made.metrics["rows_train"] == 120.0
    assert made.metrics["agreement_holdout"] >= 0.9
    assert made.metrics["tokens_per_second"] > 0.0
    assert Card.load(folder(tmp_path, 2)).rows == 30
    config = json.loads((folder(tmp_path, 2) / "adapter_config.json").read_bytes())
    assert (config["r"], config["lora_alpha"], config["base_model_name_or_path"]) == (8, 16, manifest.base)
    losses = [point["loss"] for point in course(tmp_path, 2)["losses"]]
    assert losses[0] > 5 * losses[-1]
    assert len(course(tmp_path, 2)["evaluations"]) >= 2
    again = await trainer(max_steps=1).train(job(tmp_path, 3, parent=2), nowhere)
    assert again.metrics["continued"] == 1.0
    assert course(tmp_path, 3)["losses"][0]["loss"] < 0.5 * losses[0]
    other = await trainer(max_steps=1, rank=4).train(job(tmp_path, 4, parent=2), nowhere)
    assert other.metrics["continued"] == 0.0
    assert course(tmp_path, 4)["words"]["from_scratch"] == "tickets@v2 has another r"
    assert sorted(path.name for path in (tmp_path / "tickets").iterdir()) == ["v2", "v3", "v4"]


def kill_one_worker(home: Path) -> None:
    """SIGKILL the second training process of the job in this folder."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            command = (path / "cmdline").read_bytes().split(b"\0")
            environment = (path / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        ours = any(word.startswith(bytes(home)) for word in command)
        if ours and b"apprentice.training.recipes_trl" in b" ".join(command) and b"RANK=1" in environment:
            os.kill(int(path.name), signal.SIGKILL)


async def test_packed_rows_do_not_see_each_other(tmp_path):
    """The loss of rows that share a sequence is the loss of each alone."""
    inner = trainer(max_steps=1)

    def keep(fraction: float, message: str) -> None:
        if message.startswith("step 1"):
            recipe = json.loads((tmp_path / "tickets" / ".v1.work" / "recipe.json").read_bytes())
            for name in ("tokens", "held_back"):
                (tmp_path / name).write_bytes(Path(recipe[name]).read_bytes())
                recipe[name] = str(tmp_path / name)
            (tmp_path / "recipe.json").write_text(json.dumps({**recipe, "work": str(tmp_path / "run")}))

    await inner.train(job(tmp_path), keep)
    found = evaluated(tmp_path / "recipe.json")
    (packed, packed_loss), (alone, loss) = found
    assert int(packed) < int(alone) == 12
    assert float(packed_loss) == pytest.approx(float(loss), rel=1e-5)


@pytest.fixture
def axolotl(monkeypatch) -> None:
    """Axolotl seems to be installed, here and for the processes of the trainer."""
    sources = Path(__file__).resolve().parents[2] / ".cache" / "recipes"
    assert (sources / "axolotl").is_dir(), f"{sources} is missing; `make heavy` fetches it"
    monkeypatch.syspath_prepend(str(sources))
    monkeypatch.setenv("PYTHONPATH", str(sources))


@pytest.mark.usefixtures("axolotl")
async def test_axolotl_trains_too_and_its_adapter_is_measured_alike(tmp_path):
    told: list[str] = []
    made = await trainer("axolotl", epochs=3).train(job(tmp_path), lambda fraction, message: told.append(message))
    check_manifest(folder(tmp_path, 1), made.manifest_sha256)
    assert any(message.startswith("step 20 of 162, loss ") for message in told)
    losses = [point["loss"] for point in course(tmp_path, 1)["losses"]]
    assert losses[0] > 5 * losses[-1]
    assert course(tmp_path, 1)["evaluations"]
    assert made.metrics["agreement_holdout"] >= 0.5
    assert Card.load(folder(tmp_path, 1)).rows == 30
    assert [path.name for path in (tmp_path / "tickets").iterdir()] == ["v1"]


def evaluated(recipe: Path) -> list[list[str]]:
    """Number of sequences and loss, packed and not, in a process of their own."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PACKING, str(recipe)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 0, done.stderr
    return [line.split() for line in done.stdout.splitlines() if len(line.split()) == 2 and line[0].isdigit()]


async def test_what_cannot_be_trained_is_said_plainly(tmp_path):
    with pytest.raises(TrainingFailure, match="quantization: 4bit needs a GPU"):
        await trainer(quantization="4bit").train(job(tmp_path), nowhere)
    with pytest.raises(TrainingFailure, match=r"120 of 120 are longer than max_length \(64 tokens\)"):
        await trainer(max_length=64).train(job(tmp_path), nowhere)
    with pytest.raises(TrainingFailure, match="no_such_layer"):
        await trainer(target_modules=["no_such_layer"], max_steps=1).train(job(tmp_path), nowhere)
    assert list((tmp_path / "tickets").iterdir()) == []
