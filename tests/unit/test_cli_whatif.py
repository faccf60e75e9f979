"""``apprentice whatif`` on a log file: what it prints, and what it refuses."""

import asyncio
import io
import json
from itertools import groupby
from pathlib import Path

import msgspec
import pytest
import yaml
from command_line import Run, assert_refused
from rich.console import Console

from apprentice.faces.look_whatif import whatif_panel
from apprentice.testing.models import two_kinds
from apprentice.testing.world import MODELS, PROVIDER, Options, SimulatedWorld, Traffic, simulate
from apprentice.whatif.estimate import Outcome, Range, WhatIf
from apprentice_events.log import Entry, Record
from apprentice_events.replay import verify
from apprentice_events.sqlite import SqliteLog

TASK = {
    "description": "Sort a ticket",
    "input_schema": {"text": "str"},
    "output_schema": {"category": ["billing", "bug", "account", "other"]},
}
REQUESTS = 220


def lived() -> list[Record]:
    """Two tasks of a simulated world; the second one has hardly begun."""

    async def program(world: SimulatedWorld) -> list[Record]:
        async with world.open() as runtime:
            for number in range(REQUESTS):
                await runtime.submit("task_0", {"text": f"ticket {number}"})
                await runtime.settled()
            await world.drive(runtime, Traffic(requests=6, settle=True), begin=1000)
        world.memory.reopen()
        return list(world.memory.scan())

    return simulate(program, Options(seed=1, tasks=2, accuracy=two_kinds(0.7, hard=0.7)))


async def keep(records: list[Record], path: Path) -> None:
    log = SqliteLog.open(path)
    for (stream, time_ns), group in groupby(records, key=lambda record: (record.stream, record.time_ns)):
        rows = list(group)
        entries = [Entry(row.event(), correlation=row.correlation, key=row.key) for row in rows]
        await log.append(stream, rows[0].version - 1, entries, time_ns=time_ns)
    await log.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration and its log."""
    place = tmp_path_factory.mktemp("whatif")
    (place / ".apprentice").mkdir()
    asyncio.run(keep(lived(), place / ".apprentice" / "log.db"))
    remote = {"provider": PROVIDER, "model": MODELS[0], "distillation": "allowed"}
    tasks = [{"name": f"task_{number}", **TASK} for number in range(2)]
    (place / "apprentice.yaml").write_text(yaml.safe_dump({"tasks": tasks, "remote": remote}))
    return place


def whatif(run: Run, folder: Path, *more: object):
    return run("whatif", "--config", folder / "apprentice.yaml", "--runs", "3", *more)


def test_nothing_changed_shows_what_happened_twice(run: Run, folder: Path):
    told = whatif(run, folder)
    assert told.code == 0
    assert "what if: task_0" in told.out
    assert "nothing is changed" in told.out
    assert "task_1 has no comparisons" in told.err
    calls = next(line for line in told.out.splitlines() if "remote calls" in line).split()
    happened, would_be = calls[3], calls[4]
    assert happened == would_be


def test_another_threshold_is_shown_beside_what_happened(run: Run, folder: Path):
    changes = ("--set", "tasks.task_0.guarantee.agreement=0.97", "--set", "tasks.task_0.budget.daily=0.01")
    told = whatif(run, folder, *changes)
    assert told.code == 0
    for part in ("guarantee: 0.9 → 0.97", "happened", "would be", "first local answer", "Versions of the local model"):
        assert part in told.out
    assert "Caps are not applied" in told.out
    assert "what if: task_1" not in told.out, "no change names it"
    assert max(len(line) for line in told.out.splitlines()) <= 110


def test_json_is_one_task_or_a_list_and_repeats(run: Run, folder: Path):
    one = json.loads(whatif(run, folder, "task_0", "--set", "sampling.min_floor=0.5", "--json").out)
    assert (one["task"], one["runs"], one["requests"] >= REQUESTS) == ("task_0", 3, True)
    assert one["changed"] == ["min_floor: 0.02 → 0.5"]
    assert one["control_calls"] == one["happened"]["remote_calls"]["mean"]
    assert one["estimated"]["remote_calls"]["mean"] > one["happened"]["remote_calls"]["mean"]
    again = json.loads(whatif(run, folder, "--set", "sampling.min_floor=0.5", "--json").out)
    assert again == [one]
    other = json.loads(whatif(run, folder, "task_0", "--set", "sampling.min_floor=0.5", "--json", "--seed", "7").out)
    assert other["estimated"] != one["estimated"]


def test_a_change_of_the_file_itself_is_a_change(run: Run, folder: Path, tmp_path: Path):
    text = yaml.safe_load((folder / "apprentice.yaml").read_text())
    text["tasks"][0]["confidence_thresholds"] = {"phase2_to_phase3": 0.95}
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(text))
    log = folder / ".apprentice" / "log.db"
    told = run("whatif", "task_0", "--config", tmp_path / "other.yaml", "--log", log, "--runs", "2", "--json")
    assert json.loads(told.out)["changed"] == ["phase2_to_phase3: 0.85 → 0.95"]


def test_the_log_is_only_read(run: Run, folder: Path):
    before = verify(folder / ".apprentice" / "log.db")
    whatif(run, folder, "--set", "sampling.min_floor=0.5")
    assert verify(folder / ".apprentice" / "log.db") == before


@pytest.mark.parametrize(
    ("more", "parts"),
    [
        (("--set", "sampling.min_flor=1"), ("no such key; did you mean `min_floor`?",)),
        (("--set", "tasks.task_0.guarantee.agreement=2"), ("expected a number between 0 and 1", "found `2`")),
        (("--set", "sampling.min_floor"), ("write KEY=VALUE",)),
        (("--set", "tasks.task_7.guarantee.agreement=0.5"), ("there is no task `task_7`",)),
        (("task_7",), ("there is no task 'task_7'", "task_0, task_1")),
        (("task_1",), ("task_1 has no comparisons",)),
        (("--log", "nowhere.db"), ("there is no log at nowhere.db",)),
    ],
)
def test_what_cannot_be_meant_is_refused_in_words(
    run: Run, folder: Path, more: tuple[str, ...], parts: tuple[str, ...]
):
    assert_refused(whatif(run, folder, *more), *parts)


@pytest.mark.parametrize("width", [60, 80, 140])
def test_the_view_fits_the_terminal_and_tells_what_never_happened(width: int):
    figure = Range(mean=1234.5, low=1000.0, high=1500.0)
    share = Range(mean=0.91, low=0.85, high=0.97)
    happened = Outcome(
        remote_calls=figure,
        spent=figure,
        local_share=share,
        agreement=share,
        agreement_local=share,
        failed=figure,
        graduated_after=figure,
        graduated_s=Range(mean=400_000.0, low=4000.0, high=400_000.0),
        graduated_runs=1.0,
    )
    never = msgspec.structs.replace(
        happened, agreement_local=None, graduated_after=None, graduated_s=None, graduated_runs=0.0
    )
    told = WhatIf(
        task="a_task",
        requests=2000,
        compared=700,
        changed=("guarantee: 0.9 → 0.97 [so]",),
        happened=happened,
        estimated=never,
        control_calls=1234,
        drawn=3.0,
        runs=20,
        limits=("The log [has] not everything.",),
    )
    console = Console(width=width, record=True, file=io.StringIO(), highlight=False)
    console.print(whatif_panel(told))
    lines = console.export_text().splitlines()
    assert max(len(line) for line in lines) <= width
    assert any("[so]" in line for line in lines)
    assert any("[has]" in line for line in lines)
    if width == 140:
        rows = {line.strip("│ ").split("  ")[0]: line for line in lines}
        assert "1,234" in rows["remote calls"]
        assert "1,000 … 1,500" in rows["remote calls"]
        assert "4.6 days" in rows["first local answer after"]
        assert "never" in rows["first local answer after"]
        assert "–" in rows["agreement of local answers"]
