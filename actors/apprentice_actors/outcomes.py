"""The decisions about what the remote said: settle, serve, compare, ask another teacher, or fail. Pure."""

from apprentice_events import vocabulary as v
from apprentice_events.flights import Flight
from apprentice_events.task_state import TaskState

from . import commands as c
from .decision import Decision
from .pairs import DISAGREEMENTS, compare
from .repeats import ask_again, repeat_ended
from .serving import latency_ms, served_locally, standing_in
from .settings import TaskSettings

OUTAGES = frozenset({"unavailable", "rate_limited", "timeout", "interrupted", "auth", "spend_limit"})

_PUBLIC_ERROR = {
    "refusal": "RemoteRefused",
    "cut_off": "RemoteRefused",
    "invalid": "RemoteRefused",
    "bad_request": "RemoteRefused",
    "timeout": "DeadlineExceeded",
}


def remote_returned(state: TaskState, settings: TaskSettings, command: c.RemoteReturned, now_ns: int) -> Decision:
    """The paid call is over: settle, serve or fail, and compare where a comparison is due."""
    flight = state.flights[command.request.id]
    if command.attempt == flight.repeat_attempt:
        return _repeated(flight, command)
    if isinstance(command.outcome, c.RemoteOk):
        return _remote_ok(state, flight, command, command.outcome, now_ns)
    return _remote_bad(state, settings, flight, command, command.outcome, now_ns)


def _remote_ok(
    state: TaskState, flight: Flight, command: c.RemoteReturned, answer: c.RemoteOk, now_ns: int
) -> Decision:
    request = command.request
    events: list[v.Event] = [_answered(command, answer)]
    if flight.remote is not None:  # the slower of two hedged calls
        return Decision((*events, _settle(flight, request.id, command.attempt, answer.cost_nd)))
    effects: list[c.Effect] = []
    if not flight.over:
        taken = latency_ms(request.received_ns, now_ns)
        events.append(v.ResponseServed(request=request.id, by="remote", output=answer.output, latency_ms=taken))
        effects.append(c.Reply(request=request.id, by="remote"))
    compared = compare(request, flight, flight.local, flight.rival, answer.output, None, calling=False)
    events.append(_example(request.id, flight, command.teacher, answer))
    events += compared.events
    events.append(_settle(flight, request.id, command.attempt, answer.cost_nd))
    return Decision(tuple(events), (*effects, *compared.effects, *ask_again(flight, command)))


def _repeated(flight: Flight, command: c.RemoteReturned) -> Decision:
    outcome = command.outcome
    answered = (_answered(command, outcome),) if isinstance(outcome, c.RemoteOk) else ()
    events, effects = repeat_ended(flight, command)
    settled = _settle(flight, command.request.id, command.attempt, outcome.cost_nd)
    return Decision((*answered, *events, settled), effects)


def _answered(command: c.RemoteReturned, answer: c.RemoteOk) -> v.RemoteAnswered:
    return v.RemoteAnswered(
        request=command.request.id,
        attempt=command.attempt,
        model=answer.model,
        output=answer.output,
        cost_nd=answer.cost_nd,
        usage=answer.usage,
        latency_ms=answer.latency_ms,
        provider=command.teacher,
    )


def _example(request: str, flight: Flight, teacher: str, answer: c.RemoteOk) -> v.Event:
    if not answer.teachable:
        return v.ExampleWithheld(request=request, provider=teacher)
    return v.ExampleCollected(
        request=request,
        input=flight.input,
        output=answer.output,
        source="remote",
        holdout=flight.holdout,
        tags=flight.tags,
    )


def _remote_bad(
    state: TaskState, settings: TaskSettings, flight: Flight, command: c.RemoteReturned, bad: c.RemoteBad, now_ns: int
) -> Decision:
    request = command.request
    others_out = len(flight.calls) > 1
    again = not command.expired and not others_out and _may_ask_again(settings, command, bad)
    failed = v.RemoteFailed(
        request=request.id,
        attempt=command.attempt,
        kind=bad.kind,
        reason=bad.reason,
        provider=command.teacher,
        cost_nd=bad.cost_nd,
        counts_as_disagreement=bad.kind in DISAGREEMENTS,
        final=not again and not others_out and flight.remote is None,
    )
    settled = _settle(flight, request.id, command.attempt, bad.cost_nd)
    if others_out or flight.remote is not None:
        return Decision((failed, settled))
    if again:
        purpose: c.Purpose = "audit" if flight.over or flight.inline else "serve"
        reserve = c.Reserve(request=request, attempt=command.attempt + 1, purpose=purpose)
        return Decision((failed, settled), (reserve,))
    events: list[v.Event] = [failed]
    effects: list[c.Effect] = []
    if not flight.over:
        end, effect = _without_remote(state, settings, flight, request, bad, now_ns)
        events.append(end)
        effects.append(effect)
    compared = compare(request, flight, flight.local, flight.rival, None, bad.kind, calling=False)
    return Decision((*events, *compared.events, settled), (*effects, *compared.effects))


def _may_ask_again(settings: TaskSettings, command: c.RemoteReturned, bad: c.RemoteBad) -> bool:
    """A broken call is repeated a limited number of times; an outage is another teacher's turn."""
    if bad.kind in OUTAGES and command.alternatives > 0:
        return True
    return bad.kind == "interrupted" and command.attempt < settings.max_attempts


def _without_remote(
    state: TaskState, settings: TaskSettings, flight: Flight, request: c.Request, bad: c.RemoteBad, now_ns: int
) -> tuple[v.Event, c.Effect]:
    instead = standing_in(state, request, flight, now_ns)
    if instead is not None:
        return instead, c.Reply(request=request.id, by="local")
    local = flight.local
    if settings.on_remote_down == "local" and bad.kind in OUTAGES and local is not None and local.output is not None:
        answer = c.LocalOk(output=local.output, p_agree=local.p_agree, latency_ms=0.0)
        degraded = f"not certified, and the remote is down: {bad.reason}"
        return served_locally(state, request, answer, degraded, now_ns), c.Reply(request=request.id, by="local")
    error = _PUBLIC_ERROR.get(bad.kind, "RemoteUnavailable")
    failed = v.RequestFailed(request=request.id, error=error, reason=bad.reason)
    return failed, c.ReplyError(request=request.id, error=error, reason=bad.reason)


def _settle(flight: Flight, request: str, attempt: int, cost_nd: int) -> v.Event:
    reserved_nd = flight.calls[attempt]
    if cost_nd == 0:
        return v.BudgetReleased(
            request=request, attempt=attempt, reserved_nd=reserved_nd, reason="the call was not billed"
        )
    return v.BudgetSettled(request=request, attempt=attempt, amount_nd=cost_nd, reserved_nd=reserved_nd)
