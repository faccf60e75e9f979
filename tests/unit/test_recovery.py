"""What a fresh life finds dangling, and how it closes it."""

import pytest
from test_decide import LOCAL, REQUEST, RESERVED, serving, step

from apprentice_actors import commands as c
from apprentice_actors.lessons import trigger
from apprentice_actors.recovery import recover
from apprentice_events import vocabulary as v
from apprentice_events.task_state import TaskState, evolve


def recovered(state: TaskState):
    decision = recover(state)
    for event in decision.events:
        evolve(state, event, 0)
    assert state.flights == {}
    assert recover(state).events == ()
    return decision


def calling(state: TaskState, purpose: c.Purpose = "serve") -> None:
    step(state, c.Reserved(request=REQUEST, reservation=RESERVED, provider="p", model="m", purpose=purpose))


def test_nothing_dangles_nothing_happens():
    assert recover(TaskState(task="t")).events == ()


def test_a_call_under_way_is_charged_at_its_maximum():
    state = TaskState(task="t")
    calling(state)
    settled, closed = recovered(state).events
    assert (settled.amount_nd, settled.reserved_nd, closed.charged_nd) == (100, 100, 100)
    assert state.counters.recovered == 1


def test_an_audit_under_way_is_charged_and_missed_but_its_caller_was_served():
    state = serving()
    step(state, c.LocalReturned(request=REQUEST, version="t@v1", role="champion", outcome=LOCAL))
    calling(state, "audit")
    events = recovered(state).events
    assert [event.amount_nd for event in events if isinstance(event, v.BudgetSettled)] == [100]
    assert state.counters.audits_missed == 1
    assert state.evidence.open_turns == {}


def test_an_audit_that_had_no_money_yet_is_closed_without_charge():
    state = serving()
    step(state, c.LocalReturned(request=REQUEST, version="t@v1", role="champion", outcome=LOCAL))
    events = recovered(state).events
    assert [type(event) for event in events] == [v.RequestRecovered]
    assert events[0].charged_nd == 0


def test_an_interrupted_training_is_no_strike():
    state = TaskState(task="t")
    event, _ = trigger(state, "first")
    evolve(state, event, 0)
    (failed,) = recovered(state).events
    assert failed.interrupted
    assert (state.versions.job, state.versions.failures_in_a_row, state.versions.failed_at) == (None, 0, 0)


@pytest.mark.parametrize("candidate", [None, "t@v2"])
def test_what_serves_is_loaded_and_what_was_examined_is_examined_again(candidate):
    state = serving()
    state.versions.candidate = candidate
    effects = recovered(state).effects
    assert [one.version for one in effects if isinstance(one, c.LoadVersion)] == ["t@v1"]
    assert [one.version for one in effects if isinstance(one, c.Validate)] == ([candidate] if candidate else [])
