"""The demo: its tickets, its folder, and the loop it plays."""

from pathlib import Path

import pytest

from apprentice.config import loads
from apprentice.demo import SIDE_EVERY, DemoPlan, Ending, Frame, Teacher, play, traffic
from apprentice.demo_folder import CONFIG_FILE, MAIN_TASK, SIDE_TASK, example_config, fitting, prepare
from apprentice.demo_tickets import properties, rule, tickets
from apprentice.errors import CallerError, InvalidConfig
from apprentice.wiring import LOG_FILE
from apprentice_events.errors import LogBusy
from apprentice_events.file_lock import FileLock
from apprentice_events.replay import verify

ROOT = Path(__file__).parents[2]
SMALL = "{tasks: [{name: other, description: d}], remote: {provider: anthropic, model: claude-sonnet-4-5}}"


# ---------------------------------------------------------------- the tickets


def test_the_same_seed_makes_the_same_tickets_and_another_makes_others():
    assert tickets(3, 50) == tickets(3, 50)
    assert properties(3, 50) == properties(3, 50)
    assert tickets(3, 50) != tickets(4, 50)


def test_no_ticket_comes_twice():
    given = [repr(sample.given) for sample in tickets(1, 500)]
    assert len(set(given)) == 500


def test_tickets_and_answers_fit_the_schemas_of_the_example():
    config = loads(example_config())
    for name, samples in ((MAIN_TASK, tickets(1, 200)), (SIDE_TASK, properties(1, 100))):
        task = config.task(name)
        assert task is not None
        assert task.input_schema is not None
        assert task.output_schema is not None
        for sample in samples:
            assert task.input_schema.check(sample.given) is None
            assert task.output_schema.check(sample.answer) is None


@pytest.mark.parametrize(
    ("categories", "matters", "plan", "answer"),
    [
        (["shipping", "billing"], 3, "free", ("billing", 3)),
        (["account"], 2, "enterprise", ("account", 1)),
        (["bug"], 1, "enterprise", ("bug", 1)),
        (["feedback"], 1, "enterprise", ("feedback", 5)),
        (["feedback", "bug"], 4, "team", ("bug", 4)),
    ],
)
def test_the_hidden_rule(categories: list[str], matters: int, plan: str, answer: tuple[str, int]):
    assert rule(categories, matters, plan) == answer


def test_every_category_and_priority_comes_up():
    answers = [sample.answer for sample in tickets(1, 400)]
    assert {answer["category"] for answer in answers} == {"billing", "bug", "account", "shipping", "feedback"}
    assert {answer["priority"] for answer in answers} == {1, 2, 3, 4, 5}


@pytest.mark.parametrize("requests", [1, 10, 11, 12, 100, 333])
def test_the_traffic_has_as_many_requests_as_asked_for(requests: int):
    work = traffic(1, requests)
    assert len(work) == requests
    assert sum(one.task == SIDE_TASK for one in work) == requests // SIDE_EVERY


def test_the_teacher_knows_every_answer_and_nothing_else():
    work = traffic(1, 30)
    teacher = Teacher(work)
    assert all(teacher(one.sample.given) == one.sample.answer for one in work)
    with pytest.raises(LookupError):
        teacher({"text": "never asked"})


# ---------------------------------------------------------------- the folder


def test_the_shipped_example_is_the_file_at_the_root():
    assert example_config() == (ROOT / CONFIG_FILE).read_text(encoding="utf-8"), (
        "copy apprentice.yaml to apprentice/example.yaml"
    )


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(CallerError, match="name another folder"):
        prepare(tmp_path, None)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_folder_of_an_earlier_demo_is_emptied(tmp_path: Path):
    folder = tmp_path / "demo"
    first = prepare(folder, None)
    first.storage.path.mkdir()
    (first.storage.path / "left.db").write_text("old")
    assert prepare(folder, None) == first
    assert not first.storage.path.exists()
    assert first.storage.path == folder / ".apprentice"


def test_a_demo_under_way_is_not_disturbed(tmp_path: Path):
    log = prepare(tmp_path / "demo", None).storage.path / LOG_FILE
    lock = FileLock(log)
    log.write_text("in use")
    with pytest.raises(LogBusy):
        prepare(tmp_path / "demo", None)
    assert log.read_text() == "in use"
    lock.release()


def test_a_configuration_without_the_demos_tasks_does_not_fit(tmp_path: Path):
    file = tmp_path / "mine.yaml"
    assert not fitting(file)
    file.write_text(SMALL)
    assert not fitting(file)
    with pytest.raises(InvalidConfig, match="leave --config out"):
        prepare(tmp_path / "demo", file)
    file.write_text(example_config())
    assert fitting(file)
    assert prepare(tmp_path / "demo", file).storage.path == tmp_path / "demo" / ".apprentice"


# ---------------------------------------------------------------- the play


async def played(folder: Path, requests: int) -> tuple[Ending, list[Frame]]:
    frames: list[Frame] = []
    ending = await play(DemoPlan(folder=folder, requests=requests, latency_s=0.0), frames.append)
    return ending, frames


async def test_a_short_demo_is_all_remote_and_adds_up(tmp_path: Path):
    ending, frames = await played(tmp_path / "demo", 22)
    last = frames[-1]
    assert last == ending.frame
    assert (last.done, last.total) == (22, 22)
    assert [task.requests for task in last.report.tasks] == [20, 2]
    assert ending.served_local == 0
    assert [bucket.requests for bucket in last.buckets] == [22]
    assert last.buckets[0].spent == pytest.approx(float(last.report.money.spent))
    assert last.report.money.remote_calls == 22
    assert verify(tmp_path / "demo" / ".apprentice" / LOG_FILE).ok


@pytest.mark.heavy
async def test_the_whole_demo_graduates_and_saves(tmp_path: Path):
    ending, frames = await played(tmp_path / "demo", 1500)
    assert {task.phase for frame in frames for task in frame.report.tasks if task.task == MAIN_TASK} == {
        "cold_start",
        "reinforcement",
        "steady_state",
    }
    first, last = ending.frame.buckets[0], ending.frame.buckets[-1]
    assert last.local >= 60
    assert last.spent < first.spent / 2
    assert ending.agreement_local is not None
    assert ending.agreement_local >= 0.9
    assert 0 < ending.same_local <= ending.served_local
    assert ending.audited_local > 0
    assert ending.example is not None
