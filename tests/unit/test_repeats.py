"""Asking twice, waiting for audits, unusual inputs: the rules by themselves."""

import random

import msgspec
import pytest
from test_decide import LOCAL, REMOTE, REQUEST, RESERVED, SETTINGS, serving

from apprentice_actors import commands as c
from apprentice_actors.alerts import INPUTS_MIN, watch_inputs, watch_self_agreement
from apprentice_actors.decide import decide
from apprentice_actors.recovery import recover
from apprentice_actors.repeats import REPEATS_MIN, asks_twice, self_agreement, unreachable
from apprentice_events import vocabulary as v
from apprentice_events.inputs_state import SHARE_USUAL, Inputs
from apprentice_events.task_state import TaskState, evolve
from apprentice_events.versions_state import Version

TEACHER = "p/m"
ALWAYS = msgspec.structs.replace(SETTINGS, self_agreement_rate=1.0)
INLINE = msgspec.structs.replace(SETTINGS, audit="inline", licences=((TEACHER, "allowed"),))


def act(state: TaskState, settings, command) -> list[str]:
    """Decide, check that the state was left alone, fold; the names of what was decided."""
    before = msgspec.json.encode(state)
    decision = decide(state, settings, command, 5_000_000)
    assert msgspec.json.encode(state) == before
    for event in decision.events:
        evolve(state, event, 5_000_000)
    return [type(one).__name__ for one in (*decision.events, *decision.effects)]


def money(purpose: c.Purpose, attempt: int = 1) -> c.Reserved:
    reservation = msgspec.structs.replace(RESERVED, attempt=attempt)
    return c.Reserved(request=REQUEST, reservation=reservation, provider="p", model="m", purpose=purpose)


def answered(attempt: int = 1) -> c.RemoteReturned:
    return c.RemoteReturned(request=REQUEST, attempt=attempt, outcome=REMOTE, teacher=TEACHER)


# ---------------------------------------------------------------- asking twice


def test_the_coin_of_a_repeat_falls_as_often_as_asked_and_does_not_follow_the_audits():
    chance = random.Random(0)
    settings = msgspec.structs.replace(SETTINGS, self_agreement_rate=0.1)
    coins = [chance.random() for _ in range(20_000)]
    twice = [coin for coin in coins if asks_twice(settings, msgspec.structs.replace(REQUEST, coin=coin))]
    assert len(twice) == pytest.approx(2000, rel=0.1)
    assert sum(coin < 0.5 for coin in twice) == pytest.approx(1000, rel=0.15)
    assert not any(asks_twice(SETTINGS, msgspec.structs.replace(REQUEST, coin=coin)) for coin in coins)


def test_the_second_question_is_asked_of_the_same_teacher_after_the_first_answer():
    state = TaskState(task="t")
    act(state, ALWAYS, money("serve"))
    before = msgspec.json.encode(state)
    decision = decide(state, ALWAYS, answered(), 0)
    assert msgspec.json.encode(state) == before
    assert decision.effects[-1] == c.Reserve(request=REQUEST, attempt=2, purpose="repeat", teacher=TEACHER)
    for event in decision.events:
        evolve(state, event, 0)
    assert list(state.flights) == ["r"], "it is not over before the second answer"
    assert act(state, ALWAYS, money("repeat", 2)) == ["BudgetReserved", "RemoteCallIntended", "CallRemote"]
    assert act(state, ALWAYS, answered(2)) == ["RemoteAnswered", "BudgetSettled", "ScoreRepeat"]
    assert act(state, ALWAYS, c.RepeatScored(request=REQUEST, score=0.5)) == ["SelfAgreementMeasured"]
    assert state.flights == {}
    assert state.counters.served_remote == 1
    assert state.recent_remote == ["remote"]
    assert state.teachers.of(TEACHER).repeats.agreement == 0.5


@pytest.mark.parametrize(
    ("command", "names"),
    [
        (
            c.ReservationRefused(request=REQUEST, attempt=2, purpose="repeat", reason="no money", reopens=""),
            ["SelfAgreementMissed"],
        ),
        (c.RepeatScored(request=REQUEST, score=None, reason="it raised"), ["SelfAgreementMissed"]),
    ],
)
def test_a_repeat_that_does_not_come_about_is_counted_and_over(command, names):
    state = TaskState(task="t")
    act(state, ALWAYS, money("serve"))
    act(state, ALWAYS, answered())
    assert act(state, ALWAYS, command) == names
    assert (state.flights, state.teachers.repeats_missed) == ({}, 1)


@pytest.mark.parametrize("second_out", [False, True])
def test_recovery_closes_a_request_whose_second_answer_is_awaited(second_out):
    state = TaskState(task="t")
    act(state, ALWAYS, money("serve"))
    act(state, ALWAYS, answered())
    if second_out:
        act(state, ALWAYS, money("repeat", 2))
    for event in recover(state).events:
        evolve(state, event, 0)
    assert state.flights == {}
    assert recover(state).events == ()


def repeated(scores: list[float], q: float = 1.0) -> TaskState:
    state = TaskState(task="t")
    for score in scores:
        measured = v.SelfAgreementMeasured(request="r", teacher=TEACHER, score=score, audit_probability=q)
        evolve(state, measured, 0)
    return state


def test_self_agreement_is_a_weighted_mean_with_bounds_once_there_is_enough():
    assert self_agreement(repeated([1.0] * (REPEATS_MIN - 1)), SETTINGS) is None
    state = repeated([1.0] * 60 + [0.0] * 20)
    found = self_agreement(state, SETTINGS)
    assert found is not None
    assert found.value == 0.75
    assert 0.55 < found.lower < 0.75 < found.upper < 0.9
    assert found.ceiling == pytest.approx(found.upper**0.5)
    evolve(state, v.SelfAgreementMeasured(request="r", teacher=TEACHER, score=0.0, audit_probability=0.05), 0)
    heavier = self_agreement(state, SETTINGS)
    assert heavier is not None
    assert heavier.value == pytest.approx(60 / 100)
    assert heavier.upper - heavier.lower > found.upper - found.lower, "one heavy comparison tells less"


def test_teachers_that_are_not_configured_any_more_have_no_say():
    settings = msgspec.structs.replace(SETTINGS, licences=(("other/m", "allowed"),))
    assert self_agreement(repeated([0.0] * 50), settings) is None


@pytest.mark.parametrize(
    ("right", "certified", "said"), [(95, [], False), (80, [], True), (80, [0.9], False), (50, [], True)]
)
def test_a_guarantee_is_out_of_reach_only_under_the_bound_and_with_nothing_certified(right, certified, said):
    state = repeated([1.0] * right + [0.0] * (100 - right))
    state.certified = certified
    why = unreachable(state, SETTINGS)
    assert (why is not None) is said
    if why is not None:
        assert ("no model at all" in why) is (right == 50)
        (raised,) = watch_self_agreement(state, SETTINGS).events
        assert (raised.alert, raised.severity) == ("unreachable", "warning")
        evolve(state, raised, 0)
        assert watch_self_agreement(state, SETTINGS).events == ()
        lower = msgspec.structs.replace(SETTINGS, guarantee=0.4)
        assert watch_self_agreement(state, lower).events == (v.AlertCleared(alert="unreachable"),)
    else:
        assert watch_self_agreement(state, SETTINGS).events == ()


# ---------------------------------------------------------------- waiting for an audit


def waiting(rate: float = 1.0) -> TaskState:
    state = serving(rate=rate)
    returned = c.LocalReturned(request=REQUEST, version="t@v1", role="champion", outcome=LOCAL)
    assert act(state, INLINE, returned) == ["RequestReceived", "RequestRouted", "LocalAnswered", "Reserve"]
    assert act(state, INLINE, money("audit"))[-3:] == ["BudgetReserved", "RemoteCallIntended", "CallRemote"]
    return state


def test_a_caller_whose_coin_did_not_fall_does_not_wait():
    returned = c.LocalReturned(request=REQUEST, version="t@v1", role="champion", outcome=LOCAL)
    assert "Reply" in act(serving(rate=0.4), INLINE, returned)


def test_the_remote_answer_is_served_and_compared():
    state = waiting()
    names = act(state, INLINE, answered())
    assert names == ["RemoteAnswered", "ResponseServed", "ExampleCollected", "BudgetSettled", "Reply", "Score"]
    act(state, INLINE, c.Scored(request=REQUEST, score=1.0, chance=0.0))
    assert state.flights == {}
    assert (state.counters.served_remote, state.counters.served_local) == (1, 0)
    assert state.evidence.served_local.count == 1


@pytest.mark.parametrize(("gate", "end"), [(0.8, "ResponseServed"), (None, "RequestFailed"), (0.95, "RequestFailed")])
def test_the_local_answer_stands_in_only_while_the_gate_lets_it_through(gate, end):
    state = waiting()
    evolve(state, v.GateChanged(before=0.8, after=gate, reason=""), 0)
    down = c.RemoteBad(kind="unavailable", reason="down", cost_nd=0)
    names = act(state, INLINE, c.RemoteReturned(request=REQUEST, attempt=1, outcome=down, teacher=TEACHER))
    assert end in names
    assert "AuditMissed" in names
    assert state.flights == {}


@pytest.mark.parametrize(("gate", "end"), [(0.8, "ResponseServed"), (None, "RequestFailed")])
def test_without_money_for_the_audit_it_is_the_same(gate, end):
    state = serving(rate=1.0)
    act(state, INLINE, c.LocalReturned(request=REQUEST, version="t@v1", role="champion", outcome=LOCAL))
    evolve(state, v.GateChanged(before=0.8, after=gate, reason=""), 0)
    refused = c.ReservationRefused(request=REQUEST, attempt=1, purpose="audit", reason="no money", reopens="")
    names = act(state, INLINE, refused)
    assert end in names
    assert names.count("AuditMissed") == 1
    assert state.flights == {}


def test_an_audit_that_is_waited_for_is_hedged_like_any_answer():
    state, hedged = serving(rate=1.0), msgspec.structs.replace(INLINE, hedge_after_s=3.0)
    act(state, hedged, c.LocalReturned(request=REQUEST, version="t@v1", role="champion", outcome=LOCAL))
    assert act(state, hedged, money("audit"))[-2:] == ["CallRemote", "Hedge"]


# ---------------------------------------------------------------- unusual inputs


def test_the_share_of_unusual_inputs_follows_the_recent_ones():
    inputs = Inputs()
    for number in range(2000):
        inputs.saw((number % 20) / 20 + 0.025)
    assert inputs.unusual == pytest.approx(SHARE_USUAL, abs=0.03)
    for _ in range(300):
        inputs.saw(1.0)
    assert inputs.unusual > 0.9
    assert inputs.count == 2300


def test_inputs_unlike_those_trained_on_are_a_hint_until_they_are_usual_again():
    state = serving()
    told = v.LocalAnswered(request="r", version="t@v1", output="o", p_agree=0.9, latency_ms=1.0, novelty=1.0)
    for _ in range(INPUTS_MIN - 1):
        evolve(state, told, 0)
    assert watch_inputs(state, SETTINGS).events == ()
    evolve(state, told, 0)
    (raised,) = watch_inputs(state, SETTINGS).events
    assert (raised.alert, raised.severity) == ("inputs", "info")
    evolve(state, raised, 0)
    assert watch_inputs(state, SETTINGS).events == ()
    state.versions.known["t@v1"] = Version(name="t@v1", parent=None)
    evolve(state, v.AdapterPromoted(version="t@v1", before=None, reason=""), 0)
    assert state.inputs == Inputs()
    assert watch_inputs(state, SETTINGS).events == (v.AlertCleared(alert="inputs"),)


def test_a_model_that_does_not_say_how_new_an_input_is_changes_nothing():
    state = serving()
    evolve(state, v.LocalAnswered(request="r", version="t@v1", output="o", p_agree=0.9, latency_ms=1.0), 0)
    assert state.inputs == Inputs()
