"""Deciding is pure: it never changes the state, and every command has its rule."""

import typing

import msgspec
import pytest

from apprentice_actors import commands as c
from apprentice_actors.decide import _TABLE, decide
from apprentice_actors.decision import NOTHING
from apprentice_actors.policy.gate import DEFAULT_GATES
from apprentice_actors.settings import TaskSettings
from apprentice_events import vocabulary as v
from apprentice_events.task_state import TaskState, evolve

SETTINGS = TaskSettings(task="t", gates=DEFAULT_GATES)
REQUEST = c.Request(id="r", input="in", coin=0.5)
RESERVED = v.BudgetReserved(request="r", attempt=1, amount_nd=100)
LOCAL = c.LocalOk(output="local", p_agree=0.9, latency_ms=1.0)
REMOTE = c.RemoteOk(output="remote", model="m", cost_nd=10, usage=v.TokenUsage(), latency_ms=2.0)


def serving(gate: float = 0.8, rate: float = 1.0) -> TaskState:
    """A graduate with a champion."""
    return msgspec.structs.replace(
        TaskState(task="t", phase="steady_state", gate=gate, rate=rate, certified=[gate]),
        versions=msgspec.structs.replace(TaskState(task="t").versions, champion="t@v1"),
    )


def step(state: TaskState, command: c.Command):
    """Decide, check that the state was left alone, fold; the decision."""
    before = msgspec.json.encode(state)
    decision = decide(state, SETTINGS, command, 5_000_000)
    assert msgspec.json.encode(state) == before
    for event in decision.events:
        evolve(state, event, 5_000_000)
    return decision


def names(decision) -> list[str]:
    return [type(one).__name__ for one in (*decision.events, *decision.effects)]


def leaves(kind):
    """The classes of a union of unions."""
    parts = typing.get_args(getattr(kind, "__value__", kind))
    if not parts and hasattr(kind, "__value__"):
        parts = (kind.__value__,)
    return [leaf for part in parts for leaf in leaves(part)] or [kind]


def test_every_command_has_its_rule():
    assert set(leaves(c.Command)) == set(_TABLE)


def test_a_cold_start_asks_for_money_first():
    assert names(step(TaskState(task="t"), c.Submit(request=REQUEST))) == ["Reserve"]


def test_money_makes_the_intent_durable_before_the_call():
    state = TaskState(task="t")
    reserved = c.Reserved(request=REQUEST, reservation=RESERVED, provider="p", model="m", purpose="serve")
    assert names(step(state, reserved)) == [
        "RequestReceived",
        "RequestRouted",
        "BudgetReserved",
        "RemoteCallIntended",
        "CallRemote",
    ]
    done = step(state, c.RemoteReturned(request=REQUEST, attempt=1, outcome=REMOTE))
    assert names(done) == ["RemoteAnswered", "ResponseServed", "ExampleCollected", "BudgetSettled", "Reply"]
    assert state.flights == {}


@pytest.mark.parametrize(
    ("p_agree", "coin", "expected"),
    [
        (0.8, 0.9, ["RequestReceived", "RequestRouted", "LocalAnswered", "ResponseServed", "Reply"]),
        (0.8, 0.1, ["RequestReceived", "RequestRouted", "LocalAnswered", "ResponseServed", "Reply", "Reserve"]),
        (0.79, 0.9, ["Reserve"]),
    ],
)
def test_the_gate_and_the_coin_decide(p_agree, coin, expected):
    state, request = serving(0.8, 0.2), msgspec.structs.replace(REQUEST, coin=coin)
    assert names(step(state, c.Submit(request=request))) == ["AskLocal"]
    outcome = msgspec.structs.replace(LOCAL, p_agree=p_agree)
    done = step(state, c.LocalReturned(request=request, version="t@v1", role="champion", outcome=outcome))
    assert names(done) == expected
    for event in done.events:
        if isinstance(event, v.RequestRouted):
            assert (event.audit_probability, event.audit) == (0.2, coin < 0.2)


def test_a_refused_audit_is_a_missed_one_and_nothing_else():
    state = serving()
    step(state, c.LocalReturned(request=REQUEST, version="t@v1", role="champion", outcome=LOCAL))
    refused = c.ReservationRefused(request=REQUEST, attempt=1, purpose="audit", reason="no money", reopens="")
    assert names(step(state, refused)) == ["AuditMissed"]
    assert state.flights == {}


def test_a_broken_connection_is_asked_once_more_and_charged():
    state = TaskState(task="t")
    step(state, c.Reserved(request=REQUEST, reservation=RESERVED, provider="p", model="m", purpose="serve"))
    bad = c.RemoteBad(kind="interrupted", reason="cut", cost_nd=100)
    assert names(step(state, c.RemoteReturned(request=REQUEST, attempt=1, outcome=bad))) == [
        "RemoteFailed",
        "BudgetSettled",
        "Reserve",
    ]
    again = msgspec.structs.replace(RESERVED, attempt=2)
    step(state, c.Reserved(request=REQUEST, reservation=again, provider="p", model="m", purpose="serve"))
    done = step(state, c.RemoteReturned(request=REQUEST, attempt=2, outcome=bad))
    assert names(done) == ["RemoteFailed", "RequestFailed", "BudgetSettled", "ReplyError"]
    assert state.flights == {}


@pytest.mark.parametrize(
    "command",
    [
        c.TrainingBegan(job="t/job-9", rows_train=1, rows_holdout=1, dataset=""),
        c.TrainingMoved(job="t/job-9", fraction=0.5, message=""),
        c.TrainingBroke(job="t/job-9", version="t@v9", reason=""),
        c.ValidationDone(version="t@v9", incumbent=None, rows=()),
        c.ValidationBroke(version="t@v9", reason=""),
        c.Review(),
    ],
)
def test_words_about_what_recovery_has_closed_change_nothing(command):
    assert step(serving(), command) == NOTHING


def test_an_operator_who_wants_the_remote_back_revokes_what_was_certified():
    state = serving()
    decision = step(state, c.OperatorAsked(action="reinforce"))
    assert names(decision) == ["OperatorActed", "CertificateRevoked", "EvidenceRestarted"]
    assert state.certified == []
