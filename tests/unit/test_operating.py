"""What a person may ask for, what follows, and why nothing does."""

import pytest
from test_decide import SETTINGS, names, step

from apprentice_actors import commands as c
from apprentice_actors.operating import objection
from apprentice_actors.review import retire_versions
from apprentice_events import vocabulary as v
from apprentice_events.task_state import TaskState, evolve


def fold(state: TaskState, *events: v.Event) -> TaskState:
    for event in events:
        evolve(state, event, 0)
    return state


def made(state: TaskState, number: int) -> str:
    """A version that passed validation as far as the files are concerned."""
    version = f"t@v{number}"
    fold(
        state,
        v.TrainingTriggered(job="j", version=version, parent=None, cause="batch", examples=state.collected),
        v.AdapterTrained(job="j", version=version, parent=None, manifest="m", examples=1, seconds=1.0),
    )
    return version


def succession(champions: int, *, challenger: bool = False) -> TaskState:
    """Champions v1 … one after the other; with a challenger after them."""
    state = TaskState(task="t")
    fold(state, v.ExampleCollected(request="r", input="i", output="o", source="remote"))
    for number in range(1, champions + 1):
        version = made(state, number)
        fold(state, v.AdapterPromoted(version=version, before=state.versions.champion, reason=""))
    if challenger:
        fold(state, v.AdapterLoaded(version=made(state, champions + 1), role="challenger"))
    return state


def statuses(state: TaskState) -> dict[str, str]:
    return {name: one.status for name, one in state.versions.known.items()}


def asked(action: str, version: str | None = None) -> c.OperatorAsked:
    return c.OperatorAsked(action=action, version=version, reason="because")


def test_a_succession_leaves_one_champion_and_one_predecessor():
    assert statuses(succession(3)) == {"t@v1": "standby", "t@v2": "rival", "t@v3": "champion"}


def test_the_challenger_is_promoted_unless_another_is_named():
    state = succession(2, challenger=True)
    decision = step(state, asked("promote"))
    assert names(decision) == ["OperatorActed", "AdapterPromoted", "LoadVersion"]
    assert (state.versions.champion, state.versions.rival, state.versions.rival_role) == (
        "t@v3",
        "t@v2",
        "predecessor",
    )
    assert decision.events[1].reason == "because"


def test_any_kept_version_can_be_promoted_and_the_one_it_leaves_behind_is_watched():
    state = succession(3, challenger=True)
    step(state, asked("promote", "t@v1"))
    assert (state.versions.champion, state.versions.rival) == ("t@v1", "t@v3")
    assert statuses(state) == {"t@v1": "champion", "t@v2": "standby", "t@v3": "rival", "t@v4": "standby"}


@pytest.mark.parametrize(("version", "expected"), [(None, "t@v2"), ("t@v1", "t@v1")])
def test_a_rollback_goes_to_the_champion_before_unless_another_is_named(version, expected):
    state = succession(3)
    decision = step(state, asked("rollback", version))
    assert state.versions.champion == expected
    assert statuses(state)["t@v3"] == "rolled_back"
    loads = [one.version for one in decision.effects if isinstance(one, c.LoadVersion)]
    drops = [(one.version, one.delete) for one in decision.effects if isinstance(one, c.DropVersion)]
    assert (loads, drops) == ([expected], [("t@v3", False)])


def test_two_rollbacks_go_back_two_steps():
    state = succession(3)
    step(state, asked("rollback"))
    step(state, asked("rollback"))
    assert state.versions.champion == "t@v1"
    assert "no earlier champion is kept" in objection(state, asked("rollback"))


def test_a_challenger_is_no_earlier_champion():
    state = succession(1, challenger=True)
    assert "no earlier champion is kept" in objection(state, asked("rollback"))
    step(state, asked("rollback", "t@v2"))
    assert state.versions.champion == "t@v2"


def test_retiring_deletes_the_files_and_ends_a_comparison():
    state = succession(2)
    decision = step(state, asked("retire", "t@v1"))
    assert [(one.version, one.delete) for one in decision.effects] == [("t@v1", True)]
    assert (statuses(state)["t@v1"], state.versions.rival, state.versions.paired) == ("retired", None, None)
    assert "is not kept: it is retired" in objection(state, asked("retire", "t@v1"))


@pytest.mark.parametrize(
    ("state", "command", "words"),
    [
        (succession(0), asked("promote"), "there is no challenger; kept are: none"),
        (succession(0), asked("retire"), "no version is named"),
        (succession(1), asked("promote", "t@v7"), "t@v7 is not known; kept are: t@v1"),
        (succession(1), asked("promote", "t@v1"), "is the champion already"),
        (succession(1), asked("rollback", "t@v1"), "is the champion already"),
        (succession(1), asked("retire", "t@v1"), "promote another version first"),
        (succession(1), asked("reinforce"), "is in cold_start"),
        (TaskState(task="t"), asked("train"), "no examples to train on"),
    ],
)
def test_what_makes_no_sense_is_recorded_with_the_reason(state, command, words):
    before = statuses(state), state.versions.champion
    decision = step(state, command)
    assert names(decision) == ["OperatorActed"]
    assert words in decision.events[0].refused
    assert (statuses(state), state.versions.champion) == before


def test_one_training_and_one_validation_at_a_time():
    state = succession(1)
    made(state, 2)
    for action, version in (("train", None), ("promote", "t@v2"), ("retire", "t@v2")):
        assert "t@v2 is being validated" in objection(state, asked(action, version))
    fold(state, v.TrainingTriggered(job="j", version="t@v3", parent=None, cause="batch", examples=1))
    assert "t@v3 is being trained" in objection(state, asked("train"))


# ---------------------------------------------------------------- what is kept


def retired(state: TaskState) -> list[str]:
    decision = retire_versions(state, SETTINGS)
    assert [one.version for one in decision.events] == [one.version for one in decision.effects if one.delete]
    return [one.version for one in decision.events]


def test_the_last_three_are_kept_and_what_was_rolled_back_goes_first():
    assert retired(succession(3)) == []
    assert retired(succession(4)) == ["t@v1"]
    state = succession(4)
    fold(state, v.AdapterRolledBack(version="t@v4", to="t@v3", reason=""))
    assert retired(state) == ["t@v4"]


def test_a_version_that_was_rolled_back_stays_for_inspection_while_there_is_room():
    state = succession(2)
    fold(state, v.AdapterRolledBack(version="t@v2", to="t@v1", reason=""))
    assert retired(state) == []
    assert state.versions.kept() == ["t@v1", "t@v2"]
    step(state, asked("promote", "t@v2"))
    assert statuses(state) == {"t@v1": "rival", "t@v2": "champion"}


def test_champion_and_challenger_are_kept_however_few_may_be():
    state = succession(4, challenger=True)
    settings = type(SETTINGS)(task="t", keep_versions=1)
    gone = [one.version for one in retire_versions(state, settings).events]
    assert gone == ["t@v1", "t@v2", "t@v3"]
