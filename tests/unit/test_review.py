"""The standing rules: each acts on its condition alone, and looking again changes nothing."""

import msgspec
import pytest
from test_decide import SETTINGS, serving

from apprentice_actors.epochs import restarted
from apprentice_actors.review import RULES, rate_floor, renew_evidence, watch_shadow
from apprentice_events import vocabulary as v
from apprentice_events.task_state import TaskState, evolve


def settle(state: TaskState, settings=SETTINGS) -> list[v.Event]:
    """Ask every rule once, folding what it says."""
    said: list[v.Event] = []
    for rule in RULES:
        for event in rule(state, settings).events:
            evolve(state, event, 0)
            said.append(event)
    return said


def compared(state: TaskState, score: float, count: int, p_agree: float = 0.99) -> None:
    """Comparisons in the shadow."""
    for _ in range(count):
        turn = state.turns + 1
        name = f"r{turn}"
        evolve(state, v.RequestReceived(request=name, input="i"), 0)
        routed = v.RequestRouted(
            request=name, route="remote_with_shadow", phase=state.phase, reason="", turn=turn, version="t@v1"
        )
        evolve(state, routed, 0)
        evolve(state, v.ResponseServed(request=name, by="remote", output="o", latency_ms=1.0), 0)
        scored = v.RemoteScored(
            request=name,
            turn=turn,
            version="t@v1",
            score=score,
            chance=0.2,
            p_agree=p_agree,
            audit_probability=1.0,
            served="remote",
        )
        evolve(state, scored, 0)


def learner() -> TaskState:
    state = serving()
    state.phase, state.gate, state.certified = "reinforcement", None, []
    state.alerts["quality"] = "open"
    state.versions.trained_examples = 10**6
    evolve(state, restarted(state, SETTINGS, "test"), 0)
    return state


def test_looking_again_says_nothing():
    state = learner()
    compared(state, 1.0, 80)
    assert settle(state)
    settle(state)
    before = msgspec.json.encode(state)
    for _ in range(5):
        assert settle(state) == []
    assert msgspec.json.encode(state) == before


def test_a_perfect_student_graduates_with_a_certified_gate_and_the_rate_at_one():
    state = learner()
    compared(state, 1.0, 80)
    said = settle(state)
    assert [event.after for event in said if isinstance(event, v.PhaseChanged)] == ["steady_state"]
    assert state.gate in state.certified
    assert state.rate >= 0.95
    assert "quality" not in state.alerts


def test_a_bad_student_stays():
    state = learner()
    compared(state, 0.0, 80)
    assert [event for event in settle(state) if isinstance(event, v.PhaseChanged)] == []


@pytest.mark.parametrize(("good", "renewed"), [(60, False), (100, True)])
def test_an_epoch_that_a_former_student_spoiled_is_given_up_after_a_whole_good_window(good, renewed):
    state = learner()
    compared(state, 0.0, 70)
    compared(state, 1.0, good)
    decision = renew_evidence(state, SETTINGS)
    assert bool(decision.events) is renewed
    if renewed:
        assert decision.events[0].epoch == 2
        assert decision.events[0].alpha < state.evidence.alpha


def test_good_evidence_is_never_given_up():
    state = learner()
    compared(state, 1.0, 300)
    assert renew_evidence(state, SETTINGS).events == ()


def test_coaching_that_ran_out_of_money_does_not_begin_again_at_once():
    settings = msgspec.structs.replace(SETTINGS, guarantee=0.5, coaching_budget_nd=5)
    state = serving(0.0)
    evolve(state, restarted(state, settings, "test"), 0)
    state.certified = [0.0]
    compared(state, 0.0, 30)
    compared(state, 1.0, 70)
    settings = msgspec.structs.replace(settings, emergency_threshold=0.1, coaching_trigger=0.9)
    assert [type(one) for one in settle(state, settings)].count(v.CoachingStarted) == 1
    state.coaching_spent_nd = 5
    assert [type(one) for one in settle(state, settings)].count(v.CoachingEnded) == 1
    for _ in range(3):
        assert v.CoachingStarted not in [type(one) for one in settle(state, settings)]
    assert "coaching" not in state.alerts


def test_coaching_that_ends_in_reinforcement_takes_its_alert_along():
    state = serving()
    evolve(state, restarted(state, SETTINGS, "test"), 0)
    state.coaching, state.alerts["coaching"] = "why", "open"
    settle(state)
    assert (state.phase, state.coaching) == ("reinforcement", None)
    assert "coaching" not in state.alerts


def test_a_silent_shadow_is_an_alert_until_it_speaks():
    state = learner()
    state.counters.shadow_silent = 19
    assert watch_shadow(state, SETTINGS).events == ()
    state.counters.shadow_silent = 20
    (raised,) = watch_shadow(state, SETTINGS).events
    evolve(state, raised, 0)
    assert watch_shadow(state, SETTINGS).events == ()
    state.counters.shadow_silent = 0
    assert watch_shadow(state, SETTINGS).events == (v.AlertCleared(alert="shadow"),)


def test_detect_raises_the_floor_and_never_lowers_it():
    assert rate_floor(SETTINGS) == SETTINGS.min_floor
    wanted = msgspec.structs.replace(SETTINGS, detect_drop=0.2, detect_within=200)
    assert rate_floor(wanted) > 0.1
    lax = msgspec.structs.replace(SETTINGS, detect_drop=0.5, detect_within=10**9)
    assert rate_floor(lax) == SETTINGS.min_floor
