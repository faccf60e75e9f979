"""What is quiet and what is not: each thing that a rule looks at is noticed at the event that moves it."""

import msgspec
import pytest
from test_decide import SETTINGS, serving
from test_review import compared, settle

from apprentice_actors.epochs import restarted
from apprentice_actors.quiet import ask_rules, quiet, silence
from apprentice_actors.review import move_rate
from apprentice_events import evidence
from apprentice_events import vocabulary as v
from apprentice_events.task_state import TaskState, evolve

RULES = msgspec.structs.replace(SETTINGS, gates=(0.9, 0.0), missed_in_a_row=3, coaching_budget_nd=5, cron="0 3 * * *")
AT = {"request": "q", "version": "t@v1", "output": "o", "p_agree": 0.95, "latency_ms": 1.0}
NINE_OCLOCK = 1_767_258_000 * 10**9
RECEIVED = v.RequestReceived(request="q", input="i")
ROUTED = v.RequestRouted(
    request="q", route="local_first", phase="steady_state", reason="", turn=1000, audit=False, version="t@v1"
)
ANSWERED = v.LocalAnswered(**AT)
SERVED = v.ResponseServed(request="q", by="local", output="o", latency_ms=1.0)
REMOTE = v.RemoteAnswered(
    request="q", attempt=1, model="m", output="o", cost_nd=1, usage=v.TokenUsage(), latency_ms=1.0, provider="p/m"
)


def calm() -> TaskState:
    """A graduate at its least rate. A former student spoiled the evidence of the looser step; now all agree there."""
    state = serving(0.9, rate=0.02)
    evolve(state, restarted(state, RULES, "test"), NINE_OCLOCK)
    for score, count, p_agree in ((0.0, 30, 0.1), (1.0, 100, 0.1), (1.0, 100, 0.95)):
        compared(state, score, count, p_agree)
    state.counters.shadow_silent = 0
    state.versions.triggered_ns = NINE_OCLOCK
    settle(state, RULES)
    evolve(state, v.AlertCleared(alert="none"), NINE_OCLOCK)
    assert settle(state, RULES) == []
    return state


def noticed(state, *events, at_ns=NINE_OCLOCK) -> bool:
    """Whether the rules are to be asked after the events."""
    since = silence(state, RULES)
    for event in events:
        evolve(state, event, at_ns)
    return not quiet(state, RULES, since, events)


def stirred(state, *events, at_ns=NINE_OCLOCK) -> bool:
    """The same, where the rules have something to say exactly if they are to be asked."""
    stirs = noticed(state, *events, at_ns=at_ns)
    copy = msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=TaskState)
    assert bool(settle(copy, RULES)) is stirs
    return stirs


def numbered(number, *events):
    """The events of another request."""
    turned = [{"request": f"q{number}"} | ({"turn": 1000 + number} if hasattr(one, "turn") else {}) for one in events]
    return [msgspec.structs.replace(one, **fields) for one, fields in zip(events, turned, strict=True)]


def test_a_local_answer_is_quiet():
    assert not stirred(calm(), RECEIVED, ROUTED, ANSWERED, SERVED)


def test_what_surrounds_a_comparison_is_quiet_and_the_comparison_is_not():
    state = calm()
    audited = msgspec.structs.replace(ROUTED, audit=True, audit_probability=0.02)
    assert not stirred(state, RECEIVED, audited, ANSWERED, SERVED)
    reserved = v.BudgetReserved(request="q", attempt=1, amount_nd=9)
    called = v.RemoteCallIntended(request="q", attempt=1, provider="p", model="m", purpose="audit")
    settled = v.BudgetSettled(request="q", attempt=1, amount_nd=1, reserved_nd=9)
    example = v.ExampleCollected(request="q", input="i", output="o", source="remote")
    assert not stirred(state, reserved, called, REMOTE, example, settled)
    scored = v.RemoteScored(
        request="q",
        turn=1000,
        version="t@v1",
        score=1.0,
        chance=0.2,
        p_agree=0.95,
        audit_probability=0.02,
        served="local",
    )
    assert noticed(state, scored)


def test_a_burst_that_waits_for_requests_begins_at_the_same_one():
    state = calm()
    since = silence(state, RULES)
    before = state.counters.requests
    assert before < since.burst_due < 1_000_000
    for number in range(before, int(since.burst_due)):
        assert not noticed(state, *numbered(number, RECEIVED))
        assert not move_rate(state, RULES).speaks
    assert stirred(state, RECEIVED)
    assert "opening the step 0 " in move_rate(state, RULES).events[0].reason


def test_where_a_burst_is_on_more_requests_change_nothing():
    state = calm()
    state.counters.requests = 10_000
    for _ in range(40):
        compared(state, 1.0, 1, 0.95)
        state.counters.shadow_silent = 0
        settle(state, RULES)
    assert state.rate == 1.0
    assert silence(state, RULES).burst_due == float("inf")


def test_a_shadow_that_fell_silent_or_speaks_again_is_noticed():
    state = calm()
    shadow = msgspec.structs.replace(ROUTED, route="remote_with_shadow", audit=True)
    told = [stirred(state, *numbered(number, RECEIVED, shadow)) for number in range(3)]
    assert told == [False, False, True]
    settle(state, RULES)
    assert "shadow" in state.alerts
    assert stirred(state, msgspec.structs.replace(ANSWERED, request="q2", shadow=True))


def test_unusual_inputs_are_noticed_when_they_are_many_and_when_they_are_few_again():
    state = calm()
    strange, usual = (msgspec.structs.replace(ANSWERED, novelty=novelty) for novelty in (0.99, 0.1))
    told = [stirred(state, strange) for _ in range(100)]
    assert told == [False] * 99 + [True]
    settle(state, RULES)
    assert "inputs" in state.alerts
    told = []
    while not told or not told[-1]:
        told.append(stirred(state, usual))
    assert len(told) > 1


def test_an_audit_that_is_given_up_is_noticed(monkeypatch):
    monkeypatch.setattr(evidence, "OPEN_TURNS_MAX", 3)
    state = calm()
    audited = msgspec.structs.replace(ROUTED, audit=True)
    told = [noticed(state, *numbered(number, RECEIVED, audited)) for number in range(6)]
    assert told == [False, False, False, True, True, True]
    assert [event.alert for event in settle(state, RULES)] == ["uncertified"]


def test_a_teacher_that_answers_under_another_name_is_noticed():
    state = calm()
    evolve(state, RECEIVED, NINE_OCLOCK)
    assert not stirred(state, REMOTE)
    assert stirred(state, msgspec.structs.replace(REMOTE, model="another"))


def test_the_end_of_the_money_for_coaching_is_noticed():
    state = calm()
    state.coaching = "why"
    evolve(state, RECEIVED, NINE_OCLOCK)
    assert stirred(state, v.BudgetSettled(request="q", attempt=1, amount_nd=5, reserved_nd=9))


@pytest.mark.parametrize(("hours", "due"), [(17, False), (18, True)])
def test_a_training_whose_time_has_come_is_noticed_at_whatever_happens_next(hours, due):
    state = calm()
    evolve(state, RECEIVED, NINE_OCLOCK)
    example = v.ExampleCollected(request="q", input="i", output="o", source="remote")
    assert not stirred(state, example)
    assert stirred(state, SERVED, at_ns=NINE_OCLOCK + hours * 3600 * 10**9) is due


def test_what_nobody_has_called_quiet_is_not():
    assert noticed(calm(), v.FeedbackReceived(request="q", rating=1.0))


def test_rules_that_spoke_are_asked_again():
    state = calm()
    assert ask_rules(state, RULES, lambda decision: None) == silence(state, RULES)
    state.phase, state.certified = "steady_state", []
    taken = []
    assert ask_rules(state, RULES, taken.append) is None
    assert any(decision.speaks for decision in taken)
