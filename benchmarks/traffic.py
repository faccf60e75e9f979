"""The events of a task in steady state, in the proportions in which it writes them, without running it.

Of 100 requests 90 are answered by the local model, two of them audited beside the answer; 10 lie under the gate and go
on to the remote model, whose answer becomes an example. That makes about 4.7 events per request.
"""

from collections.abc import Iterator

from apprentice_events import vocabulary as v
from apprentice_events.log import Entry
from apprentice_events.vocabulary import Event

TASK = "classify_ticket"
VERSION = f"{TASK}@v3"
MODEL = "claude-sonnet-4-5-20250929"
DIGEST = "5e" * 32
GATES = (0.99, 0.95, 0.9, 0.8, 0.7)
FLOOR = 0.02
RESERVED_ND, COST_ND = 16_000_000, 1_350_000
USAGE = v.TokenUsage(input_tokens=350, output_tokens=20)


def preamble() -> list[Event]:
    """How the task came to its steady state, in short."""
    return [
        v.EvidenceRestarted(
            epoch=1,
            reason="the first version serves",
            guarantee=0.9,
            alpha=0.03,
            gates=GATES,
            window_size=100,
            false_alarm_every=1000,
        ),
        v.TrainingTriggered(job="job-1", version=VERSION, parent=None, cause="first", examples=50),
        v.AdapterTrained(job="job-1", version=VERSION, parent=None, manifest=DIGEST, examples=50, seconds=1.0),
        v.AdapterPromoted(version=VERSION, before=None, reason="the first version"),
        v.PhaseChanged(before="cold_start", after="steady_state", reason="correlation and a certified step"),
        v.GateChanged(before=None, after=0.9, reason="certified"),
        v.SamplingRateChanged(before=1.0, after=FLOOR, target=FLOOR, correlation=0.99, reason="at the floor"),
    ]


def steady_entries(count: int) -> Iterator[Entry]:
    """``count`` entries: the preamble, then request after request (the last one perhaps cut off)."""
    made = (entry for entry in _entries())
    for _ in range(count):
        yield next(made)


def _entries() -> Iterator[Entry]:
    yield from map(Entry, preamble())
    turn = 0
    while True:
        turn += 1
        request = f"req_{turn:020x}"
        for event in _request(request, turn):
            key = f"ticket-{turn}" if isinstance(event, v.RequestReceived) else None
            yield Entry(event, correlation=request, key=key)


def _request(request: str, turn: int) -> Iterator[Event]:
    escalated, audited = turn % 10 == 0, turn % 50 == 1
    p_agree = 0.62 if escalated else 0.97
    reason = f"p_agree {p_agree:.3f} {'lies under' if escalated else 'clears'} the gate 0.9"
    yield v.RequestReceived(request=request, input=DIGEST, key=f"ticket-{turn}", holdout=turn % 5 == 0)
    yield v.RequestRouted(
        request=request,
        route="local_first",
        phase="steady_state",
        reason=reason,
        turn=turn,
        audit_probability=FLOOR,
        audit=audited or escalated,
        version=VERSION,
        gate=0.9,
    )
    yield v.LocalAnswered(request=request, version=VERSION, output=DIGEST, p_agree=p_agree, latency_ms=0.81)
    if not escalated:
        yield v.ResponseServed(request=request, by="local", output=DIGEST, latency_ms=2.43, saved_nd=COST_ND)
    if audited or escalated:
        yield from _remote(request, turn, p_agree, serve=escalated)


def _remote(request: str, turn: int, p_agree: float, *, serve: bool) -> Iterator[Event]:
    yield v.BudgetReserved(request=request, attempt=1, amount_nd=RESERVED_ND)
    purpose = v.RemoteCallIntended(
        request=request, attempt=1, provider="anthropic", model=MODEL, purpose="serve" if serve else "audit"
    )
    yield purpose
    yield v.RemoteAnswered(
        request=request, attempt=1, model=MODEL, output=DIGEST, cost_nd=COST_ND, usage=USAGE, latency_ms=812.5
    )
    yield v.BudgetSettled(request=request, attempt=1, amount_nd=COST_ND, reserved_nd=RESERVED_ND)
    if serve:
        yield v.ResponseServed(request=request, by="remote", output=DIGEST, latency_ms=815.0)
    yield v.ExampleCollected(request=request, input=DIGEST, output=DIGEST, source="remote", holdout=turn % 5 == 0)
    yield v.RemoteScored(
        request=request,
        turn=turn,
        version=VERSION,
        score=0.0 if turn % 150 == 0 else 1.0,
        chance=0.25,
        p_agree=p_agree,
        audit_probability=1.0 if serve else FLOOR,
        served="remote" if serve else "local",
    )
