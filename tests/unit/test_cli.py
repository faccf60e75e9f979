"""The command line as a newcomer meets it: what it prints, where, and with which exit code."""

import asyncio
import json
import shutil
import sqlite3
from pathlib import Path

import pytest
from command_line import Ran, Run, assert_refused

from apprentice.demo import DemoPlan, play
from apprentice.demo_folder import CONFIG_FILE, example_config
from apprentice.faces.cli.document import cli_markdown
from apprentice.testing import Frontier
from apprentice_events.file_lock import FileLock
from apprentice_events.replay import verify

ROOT = Path(__file__).parents[2]
COMMANDS = [
    *("init", "config", "demo", "rehearse"),
    *("run", "correct", "feedback", "erase"),
    *("status", "report", "why", "events"),
    *("replay", "verify", "whatif"),
    *("versions", "distill"),
]
TICKETS = 40


@pytest.fixture(scope="module")
def once_played(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a short demo."""
    folder = tmp_path_factory.mktemp("cli") / "demo"
    asyncio.run(play(DemoPlan(folder=folder, requests=TICKETS, latency_s=0.0), lambda frame: None))
    return folder


@pytest.fixture
def demo(once_played: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may spoil."""
    return shutil.copytree(once_played, tmp_path / "demo")


@pytest.fixture
def config(demo: Path) -> Path:
    return demo / CONFIG_FILE


@pytest.fixture
def log(demo: Path) -> Path:
    return demo / ".apprentice" / "log.db"


# ---------------------------------------------------------------- the whole


def test_the_help_names_every_command(run: Run):
    told = run("--help")
    assert told.code == 0
    for command in COMMANDS:
        assert f" {command} " in told.out
        assert run(command, "--help").code == 0


def test_the_page_is_what_the_commands_say():
    page = (ROOT / "docs" / "CLI.md").read_text(encoding="utf-8")
    assert page == cli_markdown(), "write it anew: python -m apprentice.faces.cli.document > docs/CLI.md"
    assert [command for command in COMMANDS if f"## `{command}`" not in page] == []


def test_what_cannot_be_meant_is_code_2(run: Run):
    assert run("sing").code == 2
    assert run("demo", "--requests", "none").code == 2
    assert run("why").code == 2


def test_version(run: Run):
    assert run("--version").out.startswith("apprentice ")


# ---------------------------------------------------------------- begin


def test_init_writes_a_file_that_works_and_never_overwrites_it(run: Run, tmp_path: Path):
    file = tmp_path / "new" / CONFIG_FILE
    told = run("init", tmp_path / "new")
    assert told.code == 0
    assert f"apprentice demo --config {file}" in told.out
    assert run("config", "--check", file).code == 0
    file.write_text("mine")
    assert_refused(run("init", tmp_path / "new"), "is there already", "--force")
    assert file.read_text() == "mine"
    assert run("init", tmp_path / "new", "--force").code == 0
    assert file.read_text() == example_config()


def test_config_explains_a_key_and_lists_all(run: Run):
    one = run("config", "tasks.guarantee.agreement")
    assert "0.9" in one.out
    assert "tasks[].budget.daily" in run("config", "budget").out
    assert len(json.loads(run("config", "--json").out)) > 50
    assert_refused(run("config", "no_such_key"), "no_such_key")


def test_config_check_names_all_problems(run: Run, tmp_path: Path):
    file = tmp_path / "bad.yaml"
    file.write_text("tasks: []\nremote: {provider: anthropic}\nbudget: {daily: much}\n")
    assert_refused(run("config", "--check", file), "remote.model", "budget.daily", "tasks")
    assert_refused(run("config", "--check", tmp_path / "none.yaml"), "no such file", "apprentice init")
    good = run("config", "--check", ROOT / CONFIG_FILE, "--json")
    assert json.loads(good.out)["tasks"] == ["classify_ticket", "extract_entities"]


def test_demo_on_no_terminal_prints_lines_and_commands_that_work(run: Run, tmp_path: Path):
    told = run("demo", "--requests", 22, "--keep", tmp_path / "demo", "--config", ROOT / CONFIG_FILE)
    assert told.code == 0
    assert "what it came to" in told.out
    commands = [line.split()[1:] for line in told.out.splitlines() if line.startswith("apprentice ")]
    assert [command[0] for command in commands] == ["why", "status", "events", "verify", "replay"]
    for command in commands:
        assert run(*command).code == 0


# ---------------------------------------------------------------- look


def test_status_and_report_tell_what_the_log_holds(run: Run, config: Path, log: Path):
    tasks = json.loads(run("status", "--config", config, "--json").out)
    assert sum(task["requests"] for task in tasks) == TICKETS
    one = json.loads(run("status", "classify_ticket", "--log", log, "--json").out)
    assert one["phase"] == "cold_start"
    assert one["promise"]["agreement"] == 0.9, "as the settings in the log say, without the configuration"
    assert "● cold start" in run("status", "--config", config).out
    report = json.loads(run("report", "--config", config, "--json").out)
    assert report["money"]["remote_calls"] == TICKETS
    assert "day" in report["caps"]
    assert report["trajectory"]["days"][-1]["answers"] == TICKETS
    assert sum(each["calls"] for task in report["tasks"] for each in task["teachers"]) == TICKETS
    assert "so far" in run("report", "--config", config).out
    assert "extract_entities" in run("report", "--config", config).out
    assert_refused(run("status", "nothing", "--config", config), "nothing", "classify_ticket")


def test_reading_writes_nothing_and_needs_no_turn(run: Run, config: Path, log: Path):
    before, lock = log.read_bytes(), FileLock(log)
    for command in (["status"], ["report"], ["events"], ["replay", "--check"], ["verify"]):
        assert run(*command, "--config", config).code == 0
    lock.release()
    assert log.read_bytes() == before


def test_why_tells_a_story_by_id_and_by_key(run: Run, config: Path):
    by_key = json.loads(run("why", "demo-1", "--task", "classify_ticket", "--config", config, "--json").out)
    by_id = run("why", by_key["request_id"], "--config", config)
    assert by_key["output"]["category"] in by_id.out
    assert "request_routed" in by_id.out
    assert_refused(run("why", "req_0", "--config", config), "req_0")
    assert_refused(run("why", "no-key", "--task", "classify_ticket", "--config", config), "no-key")


def test_events_are_picked_by_tag_task_and_request(run: Run, config: Path):
    def lines(*args: str) -> list[dict[str, object]]:
        return [json.loads(line) for line in run("events", *args, "--json", "--config", config).out.splitlines()]

    served = lines("--tag", "response_served", "--limit", "0")
    assert len(served) == TICKETS
    assert [line["position"] for line in lines("--limit", "3")] == sorted(line["position"] for line in lines())[-3:]
    assert {line["stream"] for line in lines("--task", "extract_entities")} == {"task/extract_entities"}
    story = lines("--request", str(served[0]["request"]))
    assert story[0]["event"] == "request_received"
    assert len(lines("--request", str(served[0]["request"]), "--tag", "response_served")) == 1
    assert "the caller got the remote answer" in run("events", "--config", config).out
    assert_refused(run("events", "--tag", "served", "--config", config), "response_served")


def test_a_missing_log_is_said_so(run: Run, tmp_path: Path):
    assert_refused(run("status", "--log", tmp_path / "log.db"), "no log", "apprentice run")
    assert_refused(run("verify", "--log", tmp_path / "log.db"), "no log")
    (tmp_path / "text.db").write_text("This is a shopping list and no database. " * 9)
    assert_refused(run("status", "--log", tmp_path / "text.db"), "cannot be read as a log")


def test_a_damaged_file_is_no_traceback(run: Run, config: Path, log: Path):
    content = bytearray(log.read_bytes())
    content[8192:] = b"\xff" * (len(content) - 8192)
    log.write_bytes(content)
    assert_refused(run("events", "--config", config), "apprentice verify")
    assert_refused(run("verify", "--config", config), "broken at position")


# ---------------------------------------------------------------- audit


def test_replay_goes_back_to_any_moment(run: Run, config: Path):
    whole = json.loads(run("replay", "--config", config, "--json").out)
    early = json.loads(run("replay", "--until", 30, "--config", config, "--json").out)
    assert early["position"] == 30
    early_task, whole_task = (state["tasks"]["classify_ticket"]["counters"] for state in (early, whole))
    assert early_task["requests"] < whole_task["requests"]
    assert json.loads(run("replay", "--until", "2001-01-01", "--config", config, "--json").out)["position"] == 0
    assert json.loads(run("replay", "--until", whole["at"], "--config", config, "--json").out)["position"] > 30
    assert "as of" in run("replay", "--until", 30, "--config", config).out
    assert_refused(run("replay", "--until", "noon", "--config", config), "noon")


def test_what_cannot_be_written_is_named(run: Run, config: Path, tmp_path: Path):
    (tmp_path / "file").write_text("")
    assert_refused(run("init", tmp_path / "file"), "file", "check the path")
    assert_refused(run("verify", "--config", config, "--save-head", tmp_path / "none" / "head"), "none/head")


def test_replay_twice_is_identical(run: Run, config: Path):
    assert "identical" in run("replay", "--check", "--config", config).out
    assert json.loads(run("replay", "--check", "--config", config, "--json").out)["identical"] is True


def test_verify_names_the_first_bad_position(run: Run, config: Path, log: Path):
    intact = run("verify", "--config", config)
    assert intact.code == 0
    assert "intact" in intact.out
    assert "cut off looks intact" in intact.out
    with sqlite3.connect(log) as connection:
        connection.execute("UPDATE records SET payload = payload || ' ' WHERE position = 17")
    connection.close()
    broken = run("verify", "--config", config)
    assert_refused(broken, "broken at position 17", "16 records")
    told = run("verify", "--config", config, "--json")
    assert told.code == 1
    assert json.loads(told.out)["first_bad_position"] == 17


def test_verify_survives_a_column_of_another_type(run: Run, config: Path, log: Path):
    with sqlite3.connect(log) as connection:
        connection.execute("UPDATE records SET stream = x'ff00' WHERE position = 9")
    connection.close()
    assert_refused(run("verify", "--config", config), "broken at position 9")


def test_only_a_noted_head_shows_a_cut_tail(run: Run, config: Path, log: Path, tmp_path: Path):
    head = tmp_path / "head.txt"
    assert run("verify", "--config", config, "--save-head", head).code == 0
    assert run("verify", "--config", config, "--head", head).code == 0
    with sqlite3.connect(log) as connection:
        connection.execute("DELETE FROM records WHERE position > 100")
    connection.close()
    assert run("verify", "--config", config).code == 0
    assert_refused(run("verify", "--config", config, "--head", head), "position 101")
    assert_refused(run("verify", "--config", config, "--head", head.read_text().strip()), "position 101")
    assert_refused(run("verify", "--config", config, "--head", config), "holds no head")


# ---------------------------------------------------------------- ask


def test_without_a_key_run_says_what_to_export(run: Run, tmp_path: Path):
    run("init", tmp_path)
    told = run("run", "classify_ticket", '{"text": "hello", "metadata": {}}', "--config", tmp_path / CONFIG_FILE)
    assert_refused(told, "export ANTHROPIC_API_KEY")


async def test_run_answers_one_input_and_every_line_of_a_file(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    answer = {"category": "bug", "priority": 2, "confidence": 0.9}
    async with Frontier(answer=lambda asked: answer) as frontier:
        file = tmp_path / CONFIG_FILE
        file.write_text(example_config().replace("# base_url: https://api.anthropic.com", f"base_url: {frontier.url}"))
        lines = tmp_path / "in.jsonl"
        lines.write_text('{"text": "a", "metadata": {}}\n\n{"text": 7}\n{"text": "b", "metadata": {}}\n')

        def three() -> tuple[Ran, Ran, Ran]:
            monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-simulated-key")
            one = ["run", "classify_ticket", '{"text": "a", "metadata": {}}', "--key", "k", "--config", file]
            return run(*one), run(*one, "--json"), run("run", "classify_ticket", f"@{lines}", "--config", file)

        monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
        first, again, many = await asyncio.to_thread(three)
    assert (first.code, json.loads(first.out)) == (0, answer)
    assert json.loads(again.out)["request_id"] in first.err, "the same key is the same request"
    assert len(frontier.calls) == 3
    assert many.code == 1
    assert [json.loads(line) for line in many.out.splitlines()] == [answer, answer]
    assert many.err.startswith("error: line 3: ")
    assert "metadata" in many.err


def test_what_is_no_json_is_refused_before_anything_is_opened(run: Run, config: Path, tmp_path: Path):
    assert_refused(run("run", "classify_ticket", "hello", "--config", config), "no JSON object")
    assert_refused(run("run", "classify_ticket", "@none.jsonl", "--config", config), "none.jsonl")
    (tmp_path / "bad.jsonl").write_text("{}\nnot json\n")
    assert_refused(run("run", "classify_ticket", f"@{tmp_path}/bad.jsonl", "--config", config), "line 2")


def test_people_correct_and_rate_without_a_key(run: Run, config: Path, log: Path):
    request = json.loads(run("events", "--tag", "response_served", "--json", "--limit", 1, "--config", config).out)
    name = request["request"]
    right = '{"category": "bug", "priority": 1, "confidence": 1.0}'
    task = request["stream"].removeprefix("task/")
    if task == "extract_entities":
        right = '{"city": "Porto", "property_type": "flat", "bedrooms": 2}'
    assert run("correct", name, right, "--author", "ada", "--config", config).code == 0
    assert run("feedback", name, "0.25", "--comment", "not quite", "--config", config).code == 0
    story = run("why", name, "--config", config).out
    assert "correction_received" in story
    assert "feedback_received" in story
    assert_refused(run("correct", name, '{"priority": 99}', "--config", config), name)
    assert_refused(run("feedback", "req_0", "1", "--config", config), "req_0")
    assert run("erase", name, "--reason", "asked to", "--config", config).out.startswith("erased: ")
    assert "none, or erased" in run("why", name, "--config", config).out
    assert verify(log).ok


def test_writing_waits_for_nobody_but_says_who_is_in_the_way(run: Run, config: Path, log: Path):
    lock = FileLock(log)
    assert_refused(run("feedback", "req_0", "1", "--config", config), "is being written by process")
    lock.release()


# ---------------------------------------------------------------- rehearse


@pytest.fixture
def stream(tmp_path: Path) -> Path:
    file = tmp_path / "stream.jsonl"
    rows = [
        {"id": n, "text": f"row {n}", "teacher_big": "even" if n % 2 == 0 else "odd", "gold": "even"} for n in range(24)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def test_a_rehearsal_guesses_the_fields_says_so_and_resumes(run: Run, stream: Path, tmp_path: Path):
    figures = tmp_path / "figures.json"
    args = ["rehearse", stream, "--storage", tmp_path / "log", "--json", figures]
    first = run(*args, "--limit", 10)
    assert first.code == 0
    assert "input text; recorded answer teacher_big, gold gold" in first.err
    assert json.loads(figures.read_text())["remote_calls"] == 10
    second = run(*args)
    assert "10 rows were answered before" in second.err
    report = json.loads(figures.read_text())
    assert (report["requests"], report["remote_calls"], report["accuracy"]) == (24, 24, 0.5)
    assert "remote calls" in second.out


def test_a_rehearsal_keeps_streams_and_options_apart(run: Run, stream: Path, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run("rehearse", stream, "--limit", 2).code == 0
    assert run("rehearse", stream, "--limit", 4).code == 0
    assert run("rehearse", stream, "--limit", 2, "--guarantee", 0.8).code == 0
    assert len(list((tmp_path / ".apprentice" / "rehearsals").iterdir())) == 2


def test_a_rehearsal_of_something_else_is_refused(run: Run, stream: Path, tmp_path: Path):
    assert_refused(run("rehearse", tmp_path / "none.jsonl"), "cannot be read")
    assert_refused(run("rehearse", stream, "--answer", "nothing", "--storage", tmp_path / "a"), "nothing")
    other = tmp_path / "other.jsonl"
    other.write_text('{"a": 1, "b": 2}\n')
    assert_refused(run("rehearse", other), "--input", "a, b")
    other.write_text("oops\n")
    assert_refused(run("rehearse", other), "line 1")
    assert_refused(run("rehearse", stream, "--config", ROOT / CONFIG_FILE), "--task", "classify_ticket")
