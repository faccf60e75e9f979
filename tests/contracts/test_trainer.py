"""What every trainer does: a whole version or none, progress, and a clean end however it comes."""

import asyncio
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import pytest_asyncio
from remote_rig import JumpingClock

from apprentice.config import LocalConfig
from apprentice.local.embedded import EmbeddedModel
from apprentice.system import SystemClock
from apprentice.testing import Frontier
from apprentice.testing.models import ScriptedTrainer
from apprentice.training.embedded import EmbeddedTrainer
from apprentice.training.hosted import HostedTrainer
from apprentice.training.lora import LoraTrainer
from apprentice.training.recipes import RecipeTrainer
from apprentice.training.versions import check_manifest, read_manifest
from apprentice_actors.ports import Example, Question, Trainer, TrainingFailure, TrainingJob
from tests import tiny_llama

# One loop for the module: the worker process is started once and serves all tests, as it does in life.
pytestmark = pytest.mark.asyncio(loop_scope="module")


def hosted() -> HostedTrainer:
    """Fine-tuning at the simulated frontier, whose models know the truth."""
    clock = JumpingClock()
    frontier = Frontier(lambda asked: {"label": "ab"["crash" in asked["text"]]}, clock=clock, tuning_s=600.0)
    local = LocalConfig(
        backend="openai",
        fine_tune_backend="openai",
        base_model="gpt-4.1-nano",
        server={"url": "http://frontier.invalid/v1"},
        training={"token_price": 0},
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_API_KEY", "sk-contract-0123456789")
        return HostedTrainer(local, clock=clock, client=httpx.AsyncClient(transport=frontier.transport()))


def tiny(backend: str) -> LocalConfig:
    """Real training of adapters for a tiny model, a few steps each."""
    training = {"max_steps": 3, "rank": 4, "batch_size": 4, "gradient_checkpointing": False}
    base = str(tiny_llama.cached_base())
    return LocalConfig(backend="transformers", fine_tune_backend=backend, base_model=base, training=training)


TRAINERS: dict[str, Callable[[], Trainer]] = {
    "embedded": EmbeddedTrainer,
    "scripted": lambda: ScriptedTrainer(SystemClock(), seconds=0.0),
    "openai": hosted,
    "lora": lambda: LoraTrainer(tiny("lora")),
    "huggingface": lambda: RecipeTrainer(tiny("huggingface"), "huggingface"),
}
HEAVY = ("lora", "huggingface")
OWN = [name for name in TRAINERS if name != "openai"]
"""Trainers whose weights lie in the version's folder; a provider gives each model a name of its own instead."""


def marked(names: Iterable[str]) -> list[Any]:
    """The names as parameters, those that take minutes marked as heavy."""
    return [pytest.param(name, marks=pytest.mark.heavy) if name in HEAVY else name for name in names]


@pytest_asyncio.fixture(params=marked(TRAINERS), scope="module", loop_scope="module")
async def trainer(request):
    made = TRAINERS[request.param]()
    yield made
    await made.aclose()


def rows(count: int, first: int = 0) -> list[Example]:
    words = ("invoice refund", "crash error")
    return [
        Example(request=f"r{at}", input={"text": f"{words[at % 2]} {at}"}, output={"label": "ab"[at % 2]})
        for at in range(first, first + count)
    ]


def job(
    home: Path,
    *,
    number: int = 1,
    train: list[Example] | None = None,
    held_out: list[Example] | None = None,
    **more: Any,
):
    for name, content in (("train", rows(40) if train is None else train), ("held-out", held_out or rows(10, 40))):
        (home / f"{name}.jsonl").write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in content))
    defaults: dict[str, Any] = {
        "job": f"job-{number}",
        "task": "tickets",
        "version": f"tickets@v{number}",
        "parent": None,
        "parent_folder": None,
        "folder": str(home / "tickets" / f"v{number}"),
        "train_file": str(home / "train.jsonl"),
        "calibration_file": str(home / "held-out.jsonl"),
        "output_schema": None,
        "match_fields": (),
        "seed": 7,
    }
    return TrainingJob(**{**defaults, **more})


def nowhere(fraction: float, message: str) -> None:
    """Progress that nobody looks at."""


def left(home: Path) -> list[str]:
    folder = home / "tickets"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


async def test_a_version_is_written_whole_and_matches_its_digest(trainer, tmp_path):
    made = await trainer.train(job(tmp_path, parent=None), nowhere)
    manifest = check_manifest(tmp_path / "tickets" / "v1", made.manifest_sha256)
    assert manifest.version == "tickets@v1"
    assert left(tmp_path) == ["v1"]
    assert made.seconds >= 0.0
    assert made.cost_nd == 0
    assert 0.0 <= made.metrics["agreement_holdout"] <= 1.0


async def test_progress_rises_from_start_to_end(trainer, tmp_path):
    seen: list[float] = []
    await trainer.train(job(tmp_path), lambda fraction, message: seen.append(fraction))
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
    assert len(seen) > 2
    assert seen[0] < 0.5


@pytest.mark.parametrize("trainer", marked(OWN), indirect=True)
async def test_same_data_and_seed_give_the_same_weights(trainer, tmp_path):
    for number in (1, 2):
        await trainer.train(job(tmp_path, number=number), nowhere)
    first, second = (read_manifest(tmp_path / "tickets" / f"v{number}")[0] for number in (1, 2))
    assert first.files == second.files
    assert first.dataset == second.dataset


async def test_other_data_give_other_weights(trainer, tmp_path):
    await trainer.train(job(tmp_path, number=1, train=rows(40)), nowhere)
    await trainer.train(job(tmp_path, number=2, train=rows(20)), nowhere)
    first, second = (read_manifest(tmp_path / "tickets" / f"v{number}")[0] for number in (1, 2))
    assert first.files != second.files
    assert first.dataset != second.dataset


async def test_a_version_is_never_overwritten(trainer, tmp_path):
    made = await trainer.train(job(tmp_path), nowhere)
    with pytest.raises(TrainingFailure, match="exists already"):
        await trainer.train(job(tmp_path, train=rows(20)), nowhere)
    check_manifest(tmp_path / "tickets" / "v1", made.manifest_sha256)


async def test_no_rows_is_a_failure_and_no_version(trainer, tmp_path):
    with pytest.raises(TrainingFailure, match="no rows"):
        await trainer.train(job(tmp_path, train=[]), nowhere)
    assert left(tmp_path) == []


async def test_a_held_out_row_among_the_training_rows_is_a_failure(trainer, tmp_path):
    with pytest.raises(TrainingFailure, match="held-out"):
        await trainer.train(job(tmp_path, train=rows(40), held_out=rows(10, 35)), nowhere)
    assert left(tmp_path) == []


async def test_cancelling_leaves_nothing_and_the_next_job_works(trainer, tmp_path):
    inner = asyncio.create_task(trainer.train(job(tmp_path), lambda fraction, message: inner.cancel()))
    with pytest.raises(asyncio.CancelledError):
        await inner
    assert left(tmp_path) == []
    await trainer.train(job(tmp_path), nowhere)
    assert left(tmp_path) == ["v1"]


async def test_jobs_asked_for_at_once_all_end(trainer, tmp_path):
    jobs = [job(tmp_path, number=number) for number in (1, 2, 3)]
    await asyncio.gather(*(trainer.train(one, nowhere) for one in jobs))
    assert left(tmp_path) == ["v1", "v2", "v3"]


@pytest.mark.parametrize("name", marked(TRAINERS))
async def test_a_closed_trainer_trains_nothing(name, tmp_path):
    trainer = TRAINERS[name]()
    await trainer.aclose()
    await trainer.aclose()
    with pytest.raises(TrainingFailure, match="closed"):
        await trainer.train(job(tmp_path), nowhere)


# ---------------------------------------------------------------- the worker process of the embedded trainer


@pytest_asyncio.fixture(loop_scope="module")
async def sick_worker():
    """Trainers whose worker runs the given program; closed at the end."""
    made: list[EmbeddedTrainer] = []

    def start(program: str, **options: Any) -> EmbeddedTrainer:
        made.append(EmbeddedTrainer(command=(sys.executable, "-S", "-c", program), **options))
        return made[-1]

    yield start
    for trainer in made:
        await trainer.aclose()


async def test_a_crashing_worker_is_a_failure_with_the_end_of_its_log(sick_worker, tmp_path):
    trainer = sick_worker("import sys; sys.stdin.readline(); sys.stderr.write('out of memory'); sys.exit(3)")
    with pytest.raises(TrainingFailure, match=r"(?s)broke down: it ended before it was done.*out of memory"):
        await trainer.train(job(tmp_path), nowhere)


async def test_a_worker_that_cannot_start_is_a_failure(tmp_path):
    trainer = EmbeddedTrainer(command=(str(tmp_path / "missing"),))
    with pytest.raises(TrainingFailure, match="broke down"):
        await trainer.train(job(tmp_path), nowhere)


async def test_a_worker_that_talks_nonsense_is_killed(sick_worker, tmp_path):
    trainer = sick_worker("import sys; sys.stdin.readline(); print('hello', flush=True); sys.stdin.readline()")
    with pytest.raises(TrainingFailure, match="broke down"):
        await trainer.train(job(tmp_path), nowhere)


async def test_a_stuck_worker_is_killed_after_the_time_cap_and_the_next_job_gets_a_fresh_one(sick_worker, tmp_path):
    program = "import sys; sys.stderr.write(f'started {len(sys.argv)}\\n'); sys.stdin.readline(); sys.stdin.readline()"
    trainer = sick_worker(program)
    for _ in range(2):
        with pytest.raises(TrainingFailure, match=r"raise local\.training\.max_minutes"):
            await trainer.train(job(tmp_path, settings={"time_cap_s": 0.05}), nowhere)
        assert trainer._worker is None


async def test_what_a_failed_worker_wrote_is_removed(sick_worker, tmp_path):
    one = job(tmp_path)
    program = f"import os, sys; sys.stdin.readline(); os.makedirs({one.folder!r}); sys.exit(1)"
    with pytest.raises(TrainingFailure):
        await sick_worker(program).train(one, nowhere)
    assert left(tmp_path) == []


async def test_an_error_in_the_progress_callback_ends_the_job(tmp_path):
    trainer = EmbeddedTrainer()

    def broken(fraction: float, message: str) -> None:
        raise RuntimeError("the log is full")

    with pytest.raises(RuntimeError, match="the log is full"):
        await trainer.train(job(tmp_path), broken)
    assert left(tmp_path) == []
    await trainer.aclose()


async def test_an_unknown_setting_is_refused_by_name(tmp_path):
    trainer = EmbeddedTrainer()
    with pytest.raises(TrainingFailure, match="lora_rank"):
        await trainer.train(job(tmp_path, settings={"lora_rank": 8}), nowhere)
    await trainer.aclose()


async def test_what_the_trainer_makes_the_model_serves(tmp_path):
    trainer, model = EmbeddedTrainer(), EmbeddedModel()
    made = await trainer.train(job(tmp_path, settings={"numeric_tolerance": {"*": 0.1}}), nowhere)
    await model.load("tickets@v1", tmp_path / "tickets" / "v1")
    answer = await model.answer(Question(task="tickets", input={"text": "a crash, an error"}), "tickets@v1")
    assert answer.output == {"label": "b"}
    assert made.metrics["rows_train"] == 40
    await trainer.aclose()
    await model.aclose()
