"""The trainer of adapters around its worker: command lines, replies, and what is left after every kind of end."""

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from apprentice.config import LocalConfig
from apprentice.errors import MissingExtra
from apprentice.training import lora
from apprentice.training.adapters.plan import Plan, Settings
from apprentice.training.lora import LoraTrainer
from apprentice.training.stages import Stage, StagedTrainer, require
from apprentice.training.work import close_work, open_work, state
from apprentice_actors.ports import Example, TrainingFailure, TrainingJob

DONE = '{"done": {"manifest_sha256": "ab", "metrics": {"loss": 1.0}}}'
CHECKPOINT = (
    "import os, sys; work = sys.argv[1] + '/checkpoint'; os.makedirs(work);"
    'open(work + "/state.json", "w").write(\'{"seed": 5, "step": 9, "seconds": 2.0}\')'
)


def local(**training: Any) -> LocalConfig:
    return LocalConfig(backend="transformers", fine_tune_backend="lora", base_model="some/model", training=training)


def job(home: Path, number: int = 1, *, rows: int = 2, **more: Any) -> TrainingJob:
    example = Example(request="r", input={"text": "x"}, output={"label": "a"})
    for name, count in (("train", rows), ("held", 1)):
        (home / f"{name}.jsonl").write_bytes((msgspec.json.encode(example) + b"\n") * count)
    told: dict[str, Any] = {
        "job": f"j{number}",
        "task": "tickets",
        "version": f"tickets@v{number}",
        "parent": None,
        "parent_folder": None,
        "folder": str(home / "tickets" / f"v{number}"),
        "train_file": str(home / "train.jsonl"),
        "calibration_file": str(home / "held.jsonl"),
        "output_schema": None,
        "match_fields": (),
        "seed": number,
    }
    return TrainingJob(**{**told, **more})


def trainer(*programs: str, seen: list[Plan] | None = None, **training: Any) -> StagedTrainer:
    """A trainer whose stages run these programs; their first argument is the work folder."""

    def stages(plan: Plan) -> list[Stage]:
        if seen is not None:
            seen.append(plan)
        ends = [(at + 1) / len(programs) for at in range(len(programs))]
        return [
            Stage((sys.executable, "-S", "-c", program, plan.work), {}, until=end)
            for program, end in zip(programs, ends, strict=True)
        ]

    return StagedTrainer(local(**training), stages)


def says(*lines: str) -> str:
    return f"print({chr(10).join(lines)!r}, flush=True)"


def left(home: Path) -> list[str]:
    folder = home / "tickets"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def nowhere(fraction: float, message: str) -> None:
    """Progress that nobody looks at."""


# ---------------------------------------------------------------- a job


async def test_stages_share_the_progress_which_never_goes_back(tmp_path):
    first = says('{"progress": [0.5, "a"]}', "noise", '{"progress": [0.1, "b"]}')
    second = says('{"progress": [0.5, "c"]}', DONE)
    seen: list[tuple[float, str]] = []
    made = await trainer(first, second).train(job(tmp_path), lambda *told: seen.append(told))
    assert seen == [(0.25, "a"), (0.25, "b"), (0.75, "c"), (1.0, "done")]
    assert made.manifest_sha256 == "ab"
    assert made.metrics == {"loss": 1.0}
    assert left(tmp_path) == []


async def test_a_stage_that_fails_ends_the_job_before_the_next(tmp_path):
    with pytest.raises(TrainingFailure, match="status 3"):
        await trainer("import sys; sys.exit(3)", says(DONE)).train(job(tmp_path), nowhere)


async def test_stages_that_end_without_a_version_are_a_failure(tmp_path):
    with pytest.raises(TrainingFailure, match="without a version"):
        await trainer("pass").train(job(tmp_path), nowhere)


async def test_a_reason_that_the_worker_gives_is_the_message(tmp_path):
    with pytest.raises(TrainingFailure, match="tickets@v1 could not be trained: no template") as caught:
        await trainer(says('{"failed": "no template"}') + "; import sys; sys.exit(1)").train(job(tmp_path), nowhere)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("program", "training", "reason"),
    [
        (
            "import time; time.sleep(600)",
            {"stuck_after_s": 0.2},
            "no sign of life .* 0.2 s; raise .*stuck_after_s",
        ),
        ("while True: print('.', flush=True)", {"max_minutes": 0.004}, "its time was up .* 0.004 minutes; raise .*"),
        (
            "import sys; sys.exit('torch.OutOfMemoryError: CUDA out of memory. Tried')",
            {},
            r"(?s)ran out of memory; lower batch_size.*OutOfMemoryError",
        ),
        ("import sys; print('what a pity'); sys.exit(2)", {}, r"(?s)status 2.*what a pity"),
        (CHECKPOINT + "; sys.exit(2)", {}, "status 2"),
        (CHECKPOINT + "; sys.exit('MemoryError')", {}, "ran out of memory"),
    ],
)
async def test_a_broken_worker_is_a_failure_with_reason_advice_and_log_and_nothing_stays(
    tmp_path, program: str, training: dict[str, float], reason: str
):
    making = f"import os; os.makedirs({str(tmp_path / 'tickets' / '.v1.partial')!r})\n"
    with pytest.raises(TrainingFailure, match=reason):
        await trainer(making + program, **training).train(job(tmp_path), nowhere)
    assert left(tmp_path) == []


KILLED = f"{CHECKPOINT}; import signal; os.kill(os.getpid(), signal.SIGKILL)"


async def test_a_killed_job_keeps_its_checkpoint_and_the_same_job_goes_on_from_it_under_the_next_number(tmp_path):
    with pytest.raises(TrainingFailure, match=r"killed \(SIGKILL\).*its last checkpoint is kept"):
        await trainer(KILLED).train(job(tmp_path, 1), nowhere)
    assert left(tmp_path) == [".v1.work"]
    seen: list[Plan] = []
    look = "import sys, os; assert os.path.exists(sys.argv[1] + '/checkpoint/state.json'); " + says(DONE)
    await trainer(look, seen=seen).train(job(tmp_path, 2), nowhere)
    assert seen[0].job.seed == 5  # as the training began, not as the new number would have it
    assert seen[0].job.version == "tickets@v2"
    assert left(tmp_path) == []


async def test_a_checkpoint_of_other_data_is_removed_when_the_next_job_begins(tmp_path):
    with pytest.raises(TrainingFailure):
        await trainer(KILLED).train(job(tmp_path, 1), nowhere)
    look = "import sys, os; assert not os.path.exists(sys.argv[1] + '/checkpoint'); " + says(DONE)
    await trainer(look).train(job(tmp_path, 2, rows=3), nowhere)
    assert left(tmp_path) == []


async def test_what_an_interrupted_training_has_used_counts_towards_its_time(tmp_path):
    with pytest.raises(TrainingFailure):
        await trainer(KILLED).train(job(tmp_path, 1, settings={"max_minutes": 0.03}), nowhere)
    with pytest.raises(TrainingFailure, match="its time was up"):
        await trainer(says(DONE)).train(job(tmp_path, 2, settings={"max_minutes": 0.03}), nowhere)
    assert left(tmp_path) == []


@pytest.mark.parametrize(("program", "stays"), [(CHECKPOINT, [".v1.work"]), ("pass", [])])
async def test_cancelling_keeps_a_checkpoint_and_nothing_else(tmp_path, program: str, stays: list[str]):
    text = f"{program}; {says('{"progress": [0.5, "x"]}')}; import time; time.sleep(600)"
    inner = asyncio.create_task(trainer(text).train(job(tmp_path), lambda fraction, message: inner.cancel()))
    with pytest.raises(asyncio.CancelledError):
        await inner
    assert left(tmp_path) == stays


async def test_closing_fails_the_jobs_under_way(tmp_path):
    made = trainer(says('{"progress": [0.5, "x"]}') + "; import time; time.sleep(600)")
    begun = asyncio.Event()
    inner = asyncio.create_task(made.train(job(tmp_path), lambda fraction, message: begun.set()))
    await begun.wait()
    await made.aclose()
    with pytest.raises(TrainingFailure, match="the trainer was closed"):
        await inner
    assert left(tmp_path) == []


async def test_an_error_in_the_progress_callback_ends_the_job(tmp_path):
    def broken(fraction: float, message: str) -> None:
        raise RuntimeError("the log is full")

    with pytest.raises(RuntimeError, match="the log is full"):
        await trainer(says('{"progress": [0.5, "x"]}') + "; import time; time.sleep(600)").train(job(tmp_path), broken)
    assert left(tmp_path) == []


async def test_a_command_that_cannot_start_and_a_file_that_is_missing_are_failures(tmp_path):
    lost = StagedTrainer(local(), lambda plan: [Stage((str(tmp_path / "missing"),), {})])
    with pytest.raises(TrainingFailure, match="missing"):
        await lost.train(job(tmp_path), nowhere)
    with pytest.raises(TrainingFailure, match=r"nowhere\.jsonl"):
        await lost.train(job(tmp_path, train_file=str(tmp_path / "nowhere.jsonl")), nowhere)
    assert left(tmp_path) == []


async def test_settings_are_checked_by_name_and_kind(tmp_path):
    with pytest.raises(TrainingFailure, match="'lora_rank'"):
        await trainer("pass").train(job(tmp_path, settings={"lora_rank": 8}), nowhere)
    with pytest.raises(TrainingFailure, match=r"rank.*correct local\.training"):
        await trainer("pass").train(job(tmp_path, settings={"rank": "many"}), nowhere)
    with pytest.raises(TrainingFailure, match="3 processes for 2 GPUs"):
        await trainer("pass").train(job(tmp_path, devices=(0, 1), settings={"processes": 3}), nowhere)


async def test_a_job_gets_one_process_per_gpu_and_its_settings_before_those_of_the_configuration(tmp_path):
    seen: list[Plan] = []
    made = trainer(says(DONE), seen=seen, rank=4, epochs=7)
    await made.train(job(tmp_path, 1, devices=(2, 5), settings={"rank": 6}), nowhere)
    await made.train(job(tmp_path, 2), nowhere)
    assert [plan.processes for plan in seen] == [2, 1]
    assert [(plan.settings.rank, plan.settings.scale, plan.settings.epochs) for plan in seen] == [(6, 12, 7), (4, 8, 7)]
    assert seen[0].settings.base_model == "some/model"


# ---------------------------------------------------------------- folders


def test_jobs_side_by_side_have_folders_of_their_own(tmp_path):
    (first, second) = (tmp_path / name for name in ("v1", "v2"))
    one = open_work(first, "same", set())
    two = open_work(second, "same", {one})
    assert one.is_dir()
    assert two.is_dir()
    assert one != two


def test_only_a_checkpoint_is_worth_keeping(tmp_path):
    work = open_work(tmp_path / "v1", "x", set())
    close_work(work, keep=True)
    assert not work.exists()
    work = open_work(tmp_path / "v1", "x", set())
    (work / "checkpoint").mkdir()
    (work / "checkpoint" / "state.json").write_text(json.dumps({"seed": 1, "step": 2, "seconds": 3.0, "losses": []}))
    close_work(work, keep=True)
    assert state(work) == {"seed": 1, "step": 2, "seconds": 3.0}
    assert open_work(tmp_path / "v1", "x", set()) == work
    assert state(work)
    assert open_work(tmp_path / "v2", "y", {work}) != work
    assert state(work)
    (work / "checkpoint" / "state.json").write_text('{"seed": 1')
    assert state(work) == {}
    close_work(work, keep=True)
    assert not work.exists()


def same(change: Callable[[TrainingJob, dict[str, Any]], tuple[TrainingJob, dict[str, Any]]], home: Path) -> bool:
    before = job(home), {"base_model": "m", "rank": 4}
    plans = [Plan(job=one, settings=Settings(**settings), work="") for one, settings in (before, change(*before))]
    return plans[0].fingerprint() == plans[1].fingerprint()


def test_a_job_is_recognised_by_what_determines_it(tmp_path):
    replace = msgspec.structs.replace
    assert same(lambda one, settings: (replace(one, version="tickets@v9", seed=9, folder="f"), settings), tmp_path)
    assert not same(lambda one, settings: (one, {**settings, "rank": 8}), tmp_path)
    assert not same(lambda one, settings: (replace(one, description="other"), settings), tmp_path)
    assert not same(lambda one, settings: (replace(one, parent="tickets@v0"), settings), tmp_path)
    other = tmp_path / "other.jsonl"
    other.write_text("{}")
    assert not same(lambda one, settings: (replace(one, train_file=str(other)), settings), tmp_path)


# ---------------------------------------------------------------- command lines


def plan(home: Path, *, devices: tuple[int, ...] = (), processes: int = 1, **settings: Any) -> Plan:
    made = Settings(**{"base_model": str(home), "processes": processes, **settings})
    return Plan(job=job(home, devices=devices), settings=made, work=str(home), processes=processes)


def test_on_the_cpu_several_processes_are_started_by_torch_below_accelerate(tmp_path):
    single = " ".join(lora.command(plan(tmp_path)))
    assert single.startswith("--cpu --num_processes 1 ")
    assert single.endswith(f"-m apprentice.training.adapters.worker {tmp_path}/plan.json")
    assert "torch.distributed" not in single
    double = " ".join(lora.command(plan(tmp_path, processes=2)))
    assert "-m torch.distributed.run --standalone --nproc-per-node 2 -m apprentice.training.adapters.worker" in double


def test_on_gpus_the_job_has_a_configuration_of_its_own(tmp_path):
    words = lora.command(plan(tmp_path, devices=(1, 3), processes=2))
    assert words[0] == "--config_file"
    written = Path(words[1]).read_text(encoding="ascii")
    assert "distributed_type: MULTI_GPU" in written
    assert "num_processes: 2" in written
    words = lora.command(plan(tmp_path, devices=(1,)))
    assert "distributed_type: 'NO'" in Path(words[1]).read_text(encoding="ascii")


def test_a_configuration_of_the_users_comes_first(tmp_path):
    words = lora.command(plan(tmp_path, devices=(0, 1), processes=2, accelerate_config="zero2.yaml"))
    assert words[:4] == ("--config_file", "zero2.yaml", "--num_processes", "2")


def test_a_worker_sees_its_own_gpus_and_no_network_for_a_model_in_a_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "secret")
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    told = lora.surroundings(plan(tmp_path, devices=(1, 3), processes=2))
    assert told["CUDA_VISIBLE_DEVICES"] == "1,3"
    assert told["HF_HUB_OFFLINE"] == "1"
    assert told["OMP_NUM_THREADS"] == "3"
    assert "secret" not in told.values()
    online = lora.surroundings(plan(tmp_path, base_model="some/model"))
    assert online["CUDA_VISIBLE_DEVICES"] == ""
    assert "HF_HUB_OFFLINE" not in online
    assert online["HF_TOKEN"] == "secret"
    assert "OPENAI_API_KEY" not in online


def test_missing_packages_are_named_with_the_extra_that_brings_them(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name in ("torch", "peft") else name)
    with pytest.raises(MissingExtra, match=r"lora needs torch and peft; install it: pip install 'apprentice\[train\]'"):
        LoraTrainer(local())
    require(("json",), "this", "that")
