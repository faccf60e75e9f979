"""The fold of a task's stream: nothing but the events changes it, and it can be written down."""

import msgspec
import pytest

from apprentice_events import vocabulary as v
from apprentice_events.task_state import _FOLDS, TaskState, evolve

PASSED_OVER = {
    "shift_detected",
    "examples_imported",
    "budget_exhausted",
    "budget_restored",
    "operator_acted",
    "runtime_started",
    "runtime_stopped",
}
"""Events of a task's stream, or of others, that leave its state alone."""


def fold(*events: v.Event) -> TaskState:
    state = TaskState(task="t")
    for event in events:
        evolve(state, event, 7)
    return state


def test_what_is_passed_over_is_passed_over_on_purpose():
    unfolded = {tag for tag, kind in v.EVENTS.items() if kind not in _FOLDS}
    assert unfolded - {"body_erased"} == PASSED_OVER


def test_a_request_is_in_flight_until_its_caller_its_call_and_its_comparison_are_over():
    opened = (
        v.RequestReceived(request="r", input="i"),
        v.RequestRouted(request="r", route="remote_with_shadow", phase="reinforcement", reason="", turn=1, version="v"),
        v.BudgetReserved(request="r", attempt=1, amount_nd=9),
        v.RemoteCallIntended(request="r", attempt=1, provider="p", model="m"),
    )
    ends = (
        v.ResponseServed(request="r", by="remote", output="o", latency_ms=1.0),
        v.BudgetSettled(request="r", attempt=1, amount_nd=3, reserved_nd=9),
        v.AuditMissed(request="r", turn=1, reason=""),
    )
    for left_out in ends:
        state = fold(*opened, *(end for end in ends if end is not left_out))
        assert set(state.flights) == {"r"}
        evolve(state, left_out, 7)
        assert state.flights == {}


def test_the_shadow_is_counted():
    asked = [
        event
        for number in range(3)
        for event in (
            v.RequestReceived(request=f"{number}", input="i"),
            v.RequestRouted(
                request=f"{number}",
                route="remote_with_shadow",
                phase="reinforcement",
                reason="",
                turn=number + 1,
                version="v",
            ),
        )
    ]
    state = fold(*asked, v.LocalFailed(request="0", version="v", reason="", shadow=True))
    counters = state.counters
    assert (counters.shadow_attempted, counters.shadow_failed, counters.shadow_ran, counters.shadow_silent) == (
        3,
        1,
        0,
        3,
    )
    evolve(state, v.LocalRejected(request="1", version="v", reason="", shadow=True), 7)
    assert (counters.shadow_ran, counters.shadow_silent) == (1, 0)


@pytest.mark.parametrize("gate", [None, 0.9])
def test_revoking_takes_the_named_step_and_all_looser_ones(gate):
    state = TaskState(task="t", certified=[0.98, 0.9, 0.8])
    evolve(state, v.CertificateRevoked(gate=gate, epoch=1, reason=""), 7)
    assert state.certified == ([] if gate is None else [0.98])


def test_a_state_survives_being_written_down():
    state = fold(
        v.RequestReceived(request="r", input="i", key="k", tags=("a",)),
        v.AlertRaised(alert="a", severity="info", message="m"),
        v.PhaseChanged(before="cold_start", after="reinforcement", reason=""),
        v.EvidenceRestarted(
            epoch=1, reason="", guarantee=0.9, alpha=0.03, gates=(0.9, 0.5), window_size=10, false_alarm_every=100
        ),
    )
    assert msgspec.json.decode(msgspec.json.encode(state), type=TaskState) == state
    assert state.phase_since_ns == 7


def test_only_recent_remote_outputs_are_kept_for_chance():
    events = []
    for number in range(6):
        events.append(v.RequestReceived(request=f"{number}", input="i"))
        events.append(
            v.RemoteAnswered(
                request=f"{number}",
                attempt=1,
                model="m",
                output=f"o{number}",
                cost_nd=1,
                usage=v.TokenUsage(),
                latency_ms=1.0,
            )
        )
    state = fold(*events)
    assert state.recent_remote == ["o2", "o3", "o4", "o5"]
    assert (state.remote_model, state.teachers.of("").reported) == ("m", "m")
