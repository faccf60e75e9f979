"""When a version is trained: thresholds, calendar, waiting, coaching, pauses."""

from datetime import UTC, datetime

import msgspec
import pytest
from test_decide import SETTINGS

from apprentice.config import loads
from apprentice.errors import InvalidConfig
from apprentice_actors import commands as c
from apprentice_actors.decide import decide
from apprentice_actors.policy.triggers import cron_problem, due, next_run_ns
from apprentice_events import vocabulary as v
from apprentice_events.task_state import TaskState, evolve

HOUR = 3600 * 10**9
DAY = 24 * HOUR
BEGIN = 1000 * DAY


def with_settings(**changes):
    return msgspec.structs.replace(SETTINGS, **changes)


NIGHTLY = with_settings(cron="0 3 * * *")


def collect(state: TaskState, count: int, at: int, *, holdout: bool = False) -> None:
    for number in range(count):
        name = f"{at}-{number}"
        evolve(state, v.ExampleCollected(request=name, input="i", output="o", source="remote", holdout=holdout), at)


def trigger(state: TaskState, at: int, cause: str = "batch") -> str:
    number = state.versions.made + 1
    version = f"t@v{number}"
    event = v.TrainingTriggered(job=f"j{number}", version=version, parent=None, cause=cause, examples=state.collected)
    evolve(state, event, at)
    return version


def train(state: TaskState, at: int, done: int) -> None:
    """A version that becomes champion."""
    version = trigger(state, at)
    trained = v.AdapterTrained(job="j", version=version, parent=None, manifest="", examples=1, seconds=1.0)
    evolve(state, trained, done)
    evolve(state, v.AdapterPromoted(version=version, before=None, reason=""), done)


def fail(state: TaskState, at: int, *, interrupted: bool = False) -> None:
    version = trigger(state, at)
    evolve(state, v.TrainingFailed(job="j", version=version, reason="", interrupted=interrupted), at + 1)


def learned(fresh_at: int | None = None) -> TaskState:
    """A task whose first version is trained, with one new example where a time is given."""
    state = TaskState(task="t")
    collect(state, 50, BEGIN)
    train(state, BEGIN, BEGIN + 1)
    if fresh_at is not None:
        collect(state, 1, fresh_at)
    return state


# ---------------------------------------------------------------- by number


def test_the_first_training_waits_for_its_number_whatever_the_clock_says():
    settings = with_settings(cron="* * * * *", max_wait_s=60.0)
    state = TaskState(task="t")
    collect(state, 49, BEGIN)
    assert due(state, settings, BEGIN + DAY) is None
    collect(state, 1, BEGIN)
    assert due(state, settings, BEGIN) == "first"


@pytest.mark.parametrize(("fresh", "cause"), [(99, None), (100, "batch")])
def test_later_ones_wait_for_a_batch(fresh, cause):
    state = learned()
    collect(state, fresh, BEGIN + HOUR)
    assert due(state, SETTINGS, BEGIN + HOUR) == cause


@pytest.mark.parametrize(("wanted", "cause"), [(True, "coaching"), (False, None)])
def test_a_fall_of_quality_trains_on_a_quarter_if_that_is_wanted(wanted, cause):
    state = learned()
    state.coaching = "why"
    collect(state, 25, BEGIN + HOUR)
    assert due(state, with_settings(quality_drop=wanted), BEGIN + HOUR) == cause


def test_three_failures_stop_every_cause():
    state = learned(BEGIN + 2)
    for number in range(3):
        fail(state, BEGIN + number * DAY)
    collect(state, 500, BEGIN + 4 * DAY)
    assert due(state, with_settings(cron="* * * * *", max_wait_s=1.0), BEGIN + 9 * DAY) is None


@pytest.mark.parametrize("what", ["job", "candidate", "rival"])
def test_one_thing_at_a_time(what):
    state = learned(BEGIN + 2)
    collect(state, 500, BEGIN + 3)
    version = trigger(state, BEGIN + 3)
    if what != "job":
        trained = v.AdapterTrained(job="j", version=version, parent=None, manifest="", examples=1, seconds=1.0)
        evolve(state, trained, BEGIN + 4)
    if what == "rival":
        evolve(state, v.AdapterLoaded(version=version, role="challenger"), BEGIN + 5)
    collect(state, 500, BEGIN + 6)
    assert due(state, NIGHTLY, BEGIN + 9 * DAY) is None


# ---------------------------------------------------------------- by the calendar


def test_a_schedule_trains_at_its_time_and_only_on_new_data():
    state = learned()
    assert due(state, NIGHTLY, BEGIN + 30 * DAY) is None
    collect(state, 1, BEGIN + 2 * HOUR)
    assert due(state, NIGHTLY, BEGIN + 3 * HOUR - 1) is None
    assert due(state, NIGHTLY, BEGIN + 3 * HOUR) == "schedule"


def test_a_held_out_row_is_nothing_to_train_on():
    state = learned()
    collect(state, 40, BEGIN + 2 * HOUR, holdout=True)
    assert due(state, with_settings(cron="0 3 * * *", max_wait_s=1.0), BEGIN + 9 * DAY) is None


def test_what_comes_after_the_time_waits_for_the_next_time():
    state = learned(BEGIN + 4 * HOUR)
    assert due(state, NIGHTLY, BEGIN + 26 * HOUR) is None
    assert due(state, NIGHTLY, BEGIN + 27 * HOUR) == "schedule"


def test_what_came_during_a_training_is_new_afterwards():
    state = learned(BEGIN + HOUR)
    version = trigger(state, BEGIN + 3 * HOUR, "schedule")
    collect(state, 1, BEGIN + 4 * HOUR)
    trained = v.AdapterTrained(job="j", version=version, parent=None, manifest="", examples=1, seconds=1.0)
    evolve(state, trained, BEGIN + 5 * HOUR)
    evolve(
        state, v.AdapterRejected(version=version, score=0.0, incumbent=None, incumbent_score=0.0, rows=1, reason=""), 0
    )
    assert state.versions.fresh_since_ns == BEGIN + 4 * HOUR
    assert due(state, NIGHTLY, BEGIN + 6 * HOUR) is None
    assert due(state, NIGHTLY, BEGIN + 27 * HOUR) == "schedule"


def test_a_failed_scheduled_training_is_made_again_the_next_time_and_an_interrupted_one_at_once():
    state = learned(BEGIN + HOUR)
    fail(state, BEGIN + 3 * HOUR)
    assert due(state, NIGHTLY, BEGIN + 26 * HOUR) is None
    assert due(state, NIGHTLY, BEGIN + 27 * HOUR) == "schedule"
    state = learned(BEGIN + HOUR)
    fail(state, BEGIN + 3 * HOUR, interrupted=True)
    assert due(state, NIGHTLY, BEGIN + 3 * HOUR + 2) == "schedule"


def test_a_missed_time_is_made_up_for_once():
    state = learned(BEGIN + HOUR)
    week_later = BEGIN + 7 * DAY + 12 * HOUR
    assert due(state, NIGHTLY, week_later) == "schedule"
    train(state, week_later, week_later + 1)
    collect(state, 1, week_later + 2)
    assert due(state, NIGHTLY, week_later + HOUR) is None


@pytest.mark.parametrize(
    ("zone", "after", "expected"),
    [
        ("UTC", "2026-06-01T02:59:59+00:00", "2026-06-01T03:00:00+00:00"),
        ("UTC", "2026-06-01T03:00:00+00:00", "2026-06-02T03:00:00+00:00"),
        ("Europe/Berlin", "2026-06-01T02:00:00+00:00", "2026-06-02T01:00:00+00:00"),
        ("Europe/Berlin", "2026-12-01T01:00:00+00:00", "2026-12-01T02:00:00+00:00"),
    ],
)
def test_a_schedule_follows_the_zone_through_summer_time(zone, after, expected):
    after_ns, expected_ns = (int(datetime.fromisoformat(one).timestamp() * 10**9) for one in (after, expected))
    assert next_run_ns("0 3 * * *", zone, after_ns) == expected_ns


def test_an_hour_that_is_left_out_is_made_up_for_and_one_that_comes_twice_counts_once():
    spring = datetime(2026, 3, 29, 0, 0, tzinfo=UTC).timestamp() * 10**9
    assert next_run_ns("30 2 * * *", "Europe/Berlin", int(spring)) == spring + HOUR
    autumn = int(datetime(2026, 10, 25, 0, 0, tzinfo=UTC).timestamp() * 10**9)
    first = next_run_ns("30 2 * * *", "Europe/Berlin", autumn)
    assert (first - autumn) / HOUR == 0.5
    assert (next_run_ns("30 2 * * *", "Europe/Berlin", first) - first) / HOUR == 25


# ---------------------------------------------------------------- by waiting, and pauses


def test_an_example_waits_no_longer_than_it_may():
    settings = with_settings(max_wait_s=6 * 3600.0)
    state = learned(BEGIN + HOUR)
    collect(state, 1, BEGIN + 5 * HOUR)
    assert due(state, settings, BEGIN + 7 * HOUR - 1) is None
    assert due(state, settings, BEGIN + 7 * HOUR) == "max_wait"
    fail(state, BEGIN + 7 * HOUR)
    assert due(state, settings, BEGIN + 13 * HOUR - 1) is None
    assert due(state, settings, BEGIN + 13 * HOUR) == "max_wait"


def test_between_two_trainings_there_is_a_pause_but_not_for_a_person():
    settings = with_settings(cooldown_s=3600.0)
    state = learned()
    collect(state, 100, BEGIN + 2)
    assert due(state, settings, BEGIN + HOUR - 1) is None
    assert due(state, settings, BEGIN + HOUR) == "batch"
    asked = decide(state, settings, c.OperatorAsked(action="train"), BEGIN + 3)
    assert [event.cause for event in asked.events if isinstance(event, v.TrainingTriggered)] == ["manual"]


def test_time_alone_can_begin_a_training():
    state = learned(BEGIN + HOUR)
    before = msgspec.json.encode(state)
    early = decide(state, NIGHTLY, c.TimePassed(), BEGIN + 2 * HOUR)
    assert early.events == ()
    on_time = decide(state, NIGHTLY, c.TimePassed(), BEGIN + 3 * HOUR)
    assert msgspec.json.encode(state) == before
    assert [(event.cause, event.version) for event in on_time.events] == [("schedule", "t@v2")]
    assert [type(effect) for effect in on_time.effects] == [c.StartTraining]


# ---------------------------------------------------------------- the expression


@pytest.mark.parametrize("cron", ["0 3 * * *", "*/15 8-18 * * MON-FRI", "0 0 1,15 * *", "0 0 L * *", "0 0 29 2 *"])
def test_good_expressions_have_no_problem(cron):
    assert cron_problem(cron) is None


@pytest.mark.parametrize(
    ("cron", "words"),
    [
        ("nightly", "has 1 field,"),
        ("0 0 3 * * *", "has 6 fields"),
        ("61 3 * * *", "bad minute"),
        ("0 3 * * NEVER", "bad day-of-week"),
        ("0 3 30 2 *", "bad day-of-month"),
        ("0 3 31 4 1#9", "bad day-of-week"),
        ("9" * 5000 + " 3 * * *", "longer than"),
    ],
)
def test_a_bad_expression_is_said_so(cron, words):
    assert words in (cron_problem(cron) or "")


def test_the_configuration_names_the_key_and_an_example():
    text = "{tasks: [{name: a, description: d}], remote: {provider: anthropic, model: m}, local: {triggers: {cron: x}}}"
    with pytest.raises(InvalidConfig) as refused:
        loads(text)
    (problem,) = refused.value.problems
    assert "local.triggers.cron" in problem
    assert "`0 3 * * *`" in problem
