"""Events in words, for people who have to understand one request or one night."""

from collections.abc import Callable
from typing import Any

import msgspec

from apprentice.wiring import dollars
from apprentice_events import vocabulary as v

_PURPOSES = {"serve": "for the caller", "audit": "to check the local answer", "repeat": "asked a second time"}
_WORDS: dict[type[v.Event], Callable[[Any], str]] = {
    v.RequestReceived: lambda e: (
        f"received{f' under the key {e.key!r}' if e.key else ''}{', held out of training' if e.holdout else ''}"
    ),
    v.RequestRouted: lambda e: e.reason,
    v.BudgetReserved: lambda e: f"${dollars(e.amount_nd)} set aside, the highest possible price",
    v.RemoteCallIntended: lambda e: (
        f"about to ask {e.provider}/{e.model} ({_PURPOSES.get(e.purpose, e.purpose)}, attempt {e.attempt})"
    ),
    v.RemoteAnswered: lambda e: f"{e.model} answered in {e.latency_ms:.0f} ms for ${dollars(e.cost_nd)}",
    v.RemoteFailed: lambda e: f"the remote gave no usable answer: {e.kind}, {e.reason}",
    v.TeacherNoticed: lambda e: f"{e.teacher} {e.notice or 'stays after all: nothing is announced any more'}",
    v.BudgetSettled: lambda e: f"${dollars(e.amount_nd)} charged of ${dollars(e.reserved_nd)} set aside",
    v.BudgetReleased: lambda e: f"${dollars(e.reserved_nd)} given back: {e.reason}",
    v.SpendPaced: lambda e: f"audits above the floor at {e.factor:.0%} of their speed: {e.reason}",
    v.LocalAnswered: lambda e: (
        f"{e.version} answered{' in the shadow' if e.shadow else ''} in {e.latency_ms:.1f} ms, p_agree {e.p_agree:.3f}"
    ),
    v.LocalFailed: lambda e: f"{e.version} gave no answer: {e.reason}",
    v.LocalRejected: lambda e: f"{e.version} answered outside the schema: {e.reason}",
    v.ResponseServed: lambda e: (
        f"the caller got the {e.by} answer after {e.latency_ms:.0f} ms"
        f"{f', degraded: {e.degraded}' if e.degraded else ''}"
    ),
    v.RequestFailed: lambda e: f"the caller got {e.error}: {e.reason}",
    v.RequestRecovered: lambda e: f"closed after a crash, ${dollars(e.charged_nd)} charged: {e.reason}",
    v.RemoteScored: lambda e: f"{e.version} compared with the remote: score {e.score:.2f}, by chance {e.chance:.2f}",
    v.SelfAgreementMeasured: lambda e: f"{e.teacher} compared with itself: score {e.score:.2f}",
    v.SelfAgreementMissed: lambda e: f"the second answer cannot be compared: {e.reason}",
    v.AuditMissed: lambda e: f"no comparison: {e.reason}",
    v.BodyErased: lambda e: f"a body was erased: {e.reason}",
    v.ExampleCollected: lambda e: f"kept as an example ({e.source}{', held out' if e.holdout else ''})",
    v.PhaseChanged: lambda e: f"{e.before} → {e.after}: {e.reason}",
    v.GateChanged: lambda e: f"gate {_step(e.before)} → {_step(e.after)}: {e.reason}",
    v.SamplingRateChanged: lambda e: f"audit rate {e.before:.3f} → {e.after:.3f}: {e.reason}",
    v.CertificateIssued: lambda e: f"gate {e.gate:g} certified after {e.comparisons} comparisons",
    v.CertificateRevoked: lambda e: f"certificates revoked: {e.reason}",
    v.TrainingTriggered: lambda e: f"training of {e.version} on {e.examples} examples ({e.cause.replace('_', ' ')})",
    v.TrainingStarted: lambda e: f"{e.rows_train} rows to train on, {e.rows_holdout} held out",
    v.TrainingProgressed: lambda e: f"{e.fraction:.0%} {e.message}",
    v.TrainingFailed: lambda e: f"{e.version} was not made: {e.reason}",
    v.AdapterTrained: lambda e: f"{e.version} made in {e.seconds:.1f} s",
    v.AdapterValidated: lambda e: f"{e.version} passed: {e.reason}",
    v.AdapterRejected: lambda e: f"{e.version} rejected: {e.reason}",
    v.AdapterLoaded: lambda e: f"{e.version} is loaded as {e.role}",
    v.AdapterPromoted: lambda e: f"{e.version} is champion: {e.reason}",
    v.AdapterRolledBack: lambda e: f"{e.version} rolled back to {e.to}: {e.reason}",
    v.AdapterRetired: lambda e: f"{e.version} is retired: {e.reason}",
    v.OperatorActed: lambda e: (
        f"the operator asked to {e.action}{f' {e.detail}' if e.detail else ''}"
        f"{f', and nothing followed: {e.refused}' if e.refused else ''}"
    ),
    v.AlertRaised: lambda e: f"{e.severity}: {e.message}",
    v.AlertCleared: lambda e: f"over: {e.alert}",
}


def tell(event: v.Event) -> str:
    """One event in words; where there are none of its own, its fields."""
    words = _WORDS.get(type(event))
    if words is not None:
        return words(event)
    fields = msgspec.to_builtins(event)
    return ", ".join(f"{name} {value}" for name, value in fields.items()) or "noted"


def _step(gate: float | None) -> str:
    return "closed" if gate is None else f"{gate:g}"
