"""Versions and teaching by hand on the command line: on the log of a simulated world, and with a real small student."""

import asyncio
import json
import shutil
from itertools import groupby
from pathlib import Path

import pytest
import yaml
from command_line import Run, assert_refused

from apprentice.demo import DemoPlan, play
from apprentice.demo_folder import CONFIG_FILE
from apprentice.testing.world import Options, Traffic, simulate
from apprentice.training.versions import sha256_of
from apprentice.wiring import LOG_FILE
from apprentice_events import replay
from apprentice_events.file_lock import FileLock
from apprentice_events.log import Entry
from apprentice_events.sqlite import SqliteLog
from apprentice_events.vocabulary import AdapterTrained, TrainingTriggered

SOME = Traffic(requests=50, burst=10, settle=True, gap_s=0.0)
OPTIONS = Options(
    seed=2,
    outcomes=("learning", "perfect", "poisoned", "failing", "perfect"),
    skill=0.6,
    base_skill=0.2,
    config={"local": {"fine_tune_batch_size": 10_000, "keep_versions": 4}, "sampling": {"min_floor": 1.0}},
)


async def live(world, folder, seen) -> None:
    """v1 and v2 served, v3 was rejected, v4 failed, v5 is the challenger; an answer was rated, another corrected."""
    async with world.open() as runtime:
        for tags in ((), ("format",), ("format", "long")):
            for number in range(8):
                await runtime.submit("task_0", {"text": f"{tags} {number}"}, tags=tags)
        asked = await world.drive(runtime, SOME)
        for begin in (1000, 2000, 3000, 4000):
            await world.drive(runtime, SOME, begin=begin)
            await runtime.operate("task_0", "train")
            await runtime.settled()
            if begin == 1000:
                await runtime.operate("task_0", "promote", reason="looks good")
        await runtime.feedback(asked[0].request_id, 0.0)
        await runtime.correct(asked[1].request_id, {"category": "bug"})
    world.memory.reopen()
    seen.update(records=list(world.memory.scan()), bodies=dict(world.memory._bodies), config=world.config)
    shutil.copytree(world.config.local.model_dir, folder / "models")


async def write_down(folder, records, bodies) -> None:
    """A log in memory as a file."""
    log = SqliteLog.open(folder / LOG_FILE)
    waiting = dict(bodies)
    for (stream, time_ns), group in groupby(records, lambda record: (record.stream, record.time_ns)):
        entries = [Entry(record.event(), correlation=record.correlation, key=record.key) for record in group]
        named = [getattr(one.event, name, None) for one in entries for name in ("input", "output", "comment")]
        given = [body for digest in named if (body := waiting.pop(digest, None)) is not None]
        await log.append(stream, await log.stream_version(stream), entries, time_ns=time_ns, bodies=given)
    await log.close()


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, seen = tmp_path_factory.mktemp("versions"), {}
    simulate(lambda world: live(world, folder, seen), OPTIONS)
    asyncio.run(write_down(folder, seen["records"], seen["bodies"]))
    return folder


@pytest.fixture
def folder(lived: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may spoil."""
    shutil.copytree(lived, tmp_path / "copy")
    text = {
        "tasks": [
            {
                "name": "task_0",
                "description": "Sort a ticket",
                "input_schema": {"text": "str"},
                "output_schema": {"category": ["billing", "bug", "account", "other"]},
            }
        ],
        "remote": {"provider": "anthropic", "model": "claude-sonnet-4-5-20250929", "distillation": "allowed"},
        "local": {"fine_tune_batch_size": 10_000, "keep_versions": 4},
        "sampling": {"min_floor": 1.0},
        "storage": {"path": "."},
    }
    (tmp_path / "copy" / CONFIG_FILE).write_text(yaml.safe_dump(text))
    return tmp_path / "copy"


@pytest.fixture
def config(folder: Path) -> Path:
    return folder / CONFIG_FILE


def statuses(run: Run, config: Path) -> dict[str, str]:
    listed = json.loads(run("versions", "list", "--config", config, "--json").out)
    return {one["version"].removeprefix("task_0@"): one["status"] for one in listed}


# ---------------------------------------------------------------- looking


def test_list_says_what_became_of_each(run: Run, config: Path, folder: Path):
    assert statuses(run, config) == {
        "v1": "standby",
        "v2": "champion",
        "v3": "rejected",
        "v4": "rejected",
        "v5": "rival",
    }
    told = run("versions", "list", "task_0", "--log", folder / LOG_FILE).out
    assert [word in told for word in ("task_0@v1", "first", "manual", "champion", "100.0%")] == [True] * 5
    assert_refused(run("versions", "list", "nothing", "--config", config), "no task 'nothing'", "task_0")


def test_show_tells_data_training_verdict_and_life(run: Run, config: Path):
    found = json.loads(run("versions", "show", "task_0@v1", "--config", config, "--json").out)["version"]
    assert (found["cause"], found["parent"], found["rows_train"] > 30) == ("first", None, True)
    assert found["metrics"] == {"agreement_holdout": 0.6}
    assert found["statistics"]["sources"]["remote"] == found["rows_train"] + found["rows_holdout"]
    assert set(found["statistics"]["labels"]["category"]) <= {"billing", "bug", "account", "other"}
    assert found["verdict"]["incumbent"] == "base"
    assert found["verdict"]["score"] > found["verdict"]["incumbent_score"]
    assert [one["what"] for one in found["history"]] == [
        "triggered",
        "trained",
        "validated",
        "champion",
        "succeeded by task_0@v2",
    ]
    told = run("versions", "show", "task_0@v3", "--config", config).out
    for words in ("rejected: worse with confidence", "format", "task_0@v2", "left out", "life"):
        assert (words in told) is (words != "left out"), words
    assert "scripted to fail" in run("versions", "show", "task_0@v4", "--config", config).out
    challenger = json.loads(run("versions", "show", "task_0@v5", "--config", config, "--json").out)["version"]
    assert "agreements against task_0@v2 over 0 live requests" in challenger["live"]


def test_show_draws_the_loss_curve_where_the_trainer_left_one(run: Run, config: Path, folder: Path):
    curves = {"losses": [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0}, {"step": 3, "loss": 0.5}]}
    (folder / "models" / "task_0" / "v2" / "metrics.json").write_text(json.dumps(curves))
    found = json.loads(run("versions", "show", "task_0@v2", "--config", config, "--json").out)
    assert found["curves"] == {"training": [[1.0, 2.0], [2.0, 1.0], [3.0, 0.5]]}
    assert "training loss: 2 at step 1, 0.5 at step 3" in run("versions", "show", "task_0@v2", "--config", config).out


def test_a_version_that_is_not_there_is_said_so(run: Run, config: Path):
    assert_refused(run("versions", "show", "task_0@v9", "--config", config), "no version task_0@v9", "task_0@v5")
    assert_refused(run("versions", "show", "task_0", "--config", config), "TASK@vN")


def test_looking_needs_no_turn(run: Run, config: Path, folder: Path):
    lock = FileLock(folder / LOG_FILE)
    for command in (["versions", "list"], ["versions", "show", "task_0@v1"]):
        assert run(*command, "--config", config).code == 0
    assert run("distill", "collect", "task_0", "--out", folder / "out.jsonl", "--config", config).code == 0
    refused = run("versions", "promote", "task_0@v1", "--config", config)
    lock.release()
    assert_refused(refused, "is being written by process")


# ---------------------------------------------------------------- intervening


def test_forth_and_back_and_away(run: Run, config: Path, folder: Path):
    told = run("distill", "apply", "task_0", "--reason", "in a hurry", "--config", config)
    assert (told.code, told.out) == (0, "task_0@v5 is the champion of task_0\n")
    assert run("versions", "promote", "task_0@v1", "--config", config).out == "task_0@v1 is the champion of task_0\n"
    assert statuses(run, config) | {"v3": "", "v4": ""} == {
        "v1": "champion",
        "v2": "standby",
        "v3": "",
        "v4": "",
        "v5": "rival",
    }
    assert run("versions", "rollback", "task_0", "--config", config).out == "task_0@v5 is the champion of task_0\n"
    listed = json.loads(run("distill", "rollback", "task_0", "task_0@v2", "--config", config, "--json").out)
    assert [one["status"] for one in listed if one["version"] == "task_0@v2"] == ["champion"]
    retired = run("versions", "retire", "task_0@v5", "--config", config)
    assert retired.out == "task_0@v5 is retired; task_0@v2 is the champion of task_0\n"
    assert sorted(path.name for path in (folder / "models" / "task_0").iterdir()) == ["v1", "v2"]
    assert "in a hurry" in run("versions", "show", "task_0@v5", "--config", config).out
    assert replay.verify(folder / LOG_FILE).ok


def test_a_candidate_waits_for_a_process_with_a_local_model(run: Run, config: Path, folder: Path):
    manifest = sha256_of(folder / "models" / "task_0" / "v2" / "manifest.json")
    shutil.copytree(folder / "models" / "task_0" / "v2", folder / "models" / "task_0" / "v6")
    pending = [
        TrainingTriggered(job="j", version="task_0@v6", parent="task_0@v2", cause="batch", examples=270),
        AdapterTrained(job="j", version="task_0@v6", parent=None, manifest=manifest, examples=9, seconds=1.0),
    ]

    async def append() -> None:
        log = SqliteLog.open(folder / LOG_FILE)
        version = await log.stream_version("task/task_0")
        await log.append("task/task_0", version, [Entry(event) for event in pending], time_ns=2 * 10**18)
        await log.close()

    asyncio.run(append())
    assert_refused(run("versions", "promote", "task_0@v6", "--config", config), "v6 is being validated")
    assert run("versions", "retire", "task_0@v1", "--config", config).code == 0
    assert statuses(run, config)["v6"] == "trained"


def test_what_cannot_be_done_is_refused_with_the_reason(run: Run, config: Path, folder: Path):
    assert_refused(run("versions", "promote", "task_0@v3", "--config", config), "is not kept: it is rejected")
    assert_refused(run("versions", "retire", "task_0@v2", "--config", config), "promote another version first")
    assert_refused(run("versions", "promote", "other@v1", "--config", config), "no task 'other'")
    (folder / "models" / "task_0" / "v1" / "script.json").write_text("{}")
    assert_refused(run("versions", "promote", "task_0@v1", "--config", config), "v1 cannot take over", "script.json")
    assert statuses(run, config)["v2"] == "champion"


# ---------------------------------------------------------------- collecting


def test_collect_writes_and_counts(run: Run, config: Path, folder: Path):
    out = folder / "data" / "distill_dataset.jsonl"
    told = json.loads(run("distill", "collect", "task_0", "--out", out, "--config", config, "--json").out)
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(rows) == told["rows_train"] + told["rows_holdout"]
    assert {row["split"] for row in rows} == {"train", "holdout"}
    assert set(rows[0]) == {"request", "input", "output", "source", "weight", "tags", "split"}
    assert told["statistics"]["sources"]["correction"] == 1
    assert told["statistics"]["tags"] == {"format": 16, "long": 8}
    assert told["statistics"]["left_out"] == {"rated below 0.5": 1, "replaced by a correction": 1}
    assert 0 < told["statistics"]["fresh"] < len(rows)
    shown = run("distill", "collect", "task_0", "--out", out, "--config", config).out
    assert [words in shown.replace("\n", " ") for words in (told["sha256"], "1 correction", "left out")] == [True] * 3
    assert_refused(run("distill", "collect", "nothing", "--config", config), "no task 'nothing'")


# ---------------------------------------------------------------- a real student


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("distill") / "demo"
    asyncio.run(play(DemoPlan(folder=folder, requests=40, latency_s=0.0), lambda frame: None))
    return folder


def test_teaching_by_hand_from_nothing_to_a_champion(run: Run, played: Path):
    config = played / CONFIG_FILE
    assert_refused(run("distill", "eval", "classify_ticket", "--config", config), "has no version yet")
    made = run("distill", "train", "classify_ticket", "--config", config, "--json")
    found = json.loads(made.out)
    assert (made.code, found["version"], found["status"]) == (0, "classify_ticket@v1", "champion")
    assert "classify_ticket@v1 0% " in made.err
    compared = json.loads(run("distill", "eval", "classify_ticket", "--config", config, "--json").out)
    assert (compared["version"], compared["against"]) == ("classify_ticket@v1", None)
    assert compared["score"] == found["verdict"]["score"]
    again = run("distill", "train", "classify_ticket", "--config", config)
    assert again.code == 0
    assert "classify_ticket@v2" in again.out
    assert_refused(
        run("distill", "eval", "classify_ticket", "--against", "base", "--config", config), "no untrained base"
    )
    shown = run("distill", "eval", "classify_ticket", "--config", config).out
    assert "classify_ticket@v2" in shown
    assert "accepted" in shown


def test_a_training_that_fails_ends_with_1_and_the_reason(run: Run, lived: Path, folder: Path, config: Path):
    for version in ("v1", "v2"):  # of another kind than the embedded trainer makes: nothing of them can be loaded
        shutil.rmtree(folder / "models" / "task_0" / version)
    blocked = folder / "models" / "task_0" / "v6"
    blocked.mkdir(parents=True)
    told = run("distill", "train", "task_0", "--config", config)
    assert told.code == 1
    assert "task_0@v6 was not made" in told.err
    assert "exists already" in told.err
