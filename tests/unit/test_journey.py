"""A request's journey in a hundred orders of events: one answer, one settlement, one comparison."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_decide import LOCAL, REMOTE, REQUEST, RESERVED, SETTINGS, serving, step

from apprentice_actors import commands as c
from apprentice_actors.decide import decide
from apprentice_events import vocabulary as v
from apprentice_events.task_state import TaskState

LOCALS = {
    "ok": LOCAL,
    "failed": c.LocalBad(kind="failed", reason="down"),
    "rejected": c.LocalBad(kind="rejected", reason="schema"),
}
REMOTES = {
    "ok": REMOTE,
    "refusal": c.RemoteBad(kind="refusal", reason="no", cost_nd=5),
    "unavailable": c.RemoteBad(kind="unavailable", reason="down", cost_nd=0),
    "timeout": c.RemoteBad(kind="timeout", reason="late", cost_nd=100),
}


def learning(rival: str | None = None) -> TaskState:
    state = serving()
    state.phase, state.gate = "reinforcement", None
    state.versions.rival = rival
    return state


@pytest.mark.parametrize("rival", [None, "t@v2"])
@given(
    order=st.permutations(["remote", "champion", "rival"]),
    local=st.sampled_from(sorted(LOCALS)),
    other=st.sampled_from(sorted(LOCALS)),
    remote=st.sampled_from(sorted(REMOTES)),
)
def test_whoever_comes_first_there_is_one_end_of_everything(rival, order, local, other, remote):
    state = learning(rival)
    reserved = c.Reserved(request=REQUEST, reservation=RESERVED, provider="p", model="m", purpose="serve")
    decisions = [step(state, reserved)]
    for who in order:
        if who == "remote":
            command = c.RemoteReturned(request=REQUEST, attempt=1, outcome=REMOTES[remote])
        elif who == "champion":
            command = c.LocalReturned(
                request=REQUEST, version="t@v1", role="champion", outcome=LOCALS[local], shadow=True
            )
        elif rival is None:
            continue
        else:
            command = c.LocalReturned(request=REQUEST, version=rival, role="rival", outcome=LOCALS[other], shadow=True)
        decisions.append(step(state, command))
        if any(isinstance(effect, c.Score) for effect in decisions[-1].effects):
            rival_score = 1.0 if state.flights["r"].rival is not None else None
            decisions.append(step(state, c.Scored(request=REQUEST, score=1.0, chance=0.0, rival_score=rival_score)))
    events = [event for decision in decisions for event in decision.events]
    effects = [effect for decision in decisions for effect in decision.effects]
    assert state.flights == {}
    assert sum(isinstance(effect, c.Reply | c.ReplyError) for effect in effects) == 1
    assert sum(isinstance(event, v.BudgetSettled | v.BudgetReleased) for event in events) == 1
    assert sum(isinstance(event, v.RemoteScored | v.AuditMissed) for event in events) == 1
    compared = local != "failed" and remote in ("ok", "refusal")
    assert any(isinstance(event, v.RemoteScored) for event in events) is compared
    assert state.evidence.open_turns == {}


@pytest.mark.parametrize(("fallback", "kind"), [("local", v.ResponseServed), ("reject", v.RequestFailed)])
def test_an_escalated_request_without_a_remote(fallback, kind):
    state = serving()
    low = msgspec.structs.replace(LOCAL, p_agree=0.1)
    step(
        state,
        c.Reserved(
            request=REQUEST,
            reservation=RESERVED,
            provider="p",
            model="m",
            purpose="serve",
            local=low,
            version="t@v1",
        ),
    )
    settings = msgspec.structs.replace(SETTINGS, on_remote_down=fallback)
    done = decide(state, settings, c.RemoteReturned(request=REQUEST, attempt=1, outcome=REMOTES["unavailable"]), 0)
    assert kind in [type(event) for event in done.events]


def test_money_that_is_not_there_is_told_with_the_way_out():
    state = TaskState(task="t")
    refused = c.ReservationRefused(
        request=REQUEST, attempt=1, purpose="serve", reason="the day budget is exhausted", reopens="tomorrow"
    )
    (reply,) = step(state, refused).effects
    assert (reply.error, reply.reopens) == ("BudgetExhausted", "tomorrow")
    assert state.counters.failed == 1
