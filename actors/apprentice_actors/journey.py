"""The decisions of a request's journey: which way it goes, what is recorded, what happens next. Pure.

Money before calls, intent before outcome, and nothing durable before it is needed: a local answer costs one commit (its
events are written together, when it is served), a remote or escalated one two (the intent, the outcome).
"""

from apprentice_events import vocabulary as v
from apprentice_events.flights import Answer, Flight
from apprentice_events.task_state import TaskState

from . import commands as c
from .decision import Decision
from .pairs import DISAGREEMENTS, compare, score_event
from .settings import TaskSettings

PREDECESSOR_ROWS = 200
"""Compared requests for which a new champion's predecessor is kept in the shadow, ready to come back."""

OUTAGES = frozenset({"unavailable", "rate_limited", "timeout", "interrupted", "auth", "spend_limit"})

_PUBLIC_ERROR = {
    "refusal": "RemoteRefused",
    "cut_off": "RemoteRefused",
    "invalid": "RemoteRefused",
    "bad_request": "RemoteRefused",
    "timeout": "DeadlineExceeded",
}


def submit(state: TaskState, settings: TaskSettings, command: c.Submit, now_ns: int) -> Decision:
    """A request came in: ask the local model first where it may serve, else find the money for the remote."""
    champion = state.versions.champion
    if state.phase == "steady_state" and state.gate is not None and champion is not None:
        return Decision(effects=(c.AskLocal(request=command.request, version=champion, role="champion"),))
    return Decision(effects=(c.Reserve(request=command.request, attempt=1, purpose="serve"),))


def reserved(state: TaskState, settings: TaskSettings, command: c.Reserved, now_ns: int) -> Decision:
    """The money is there: record the intent, then call. Shadows are asked beside the call."""
    request = command.request
    events: list[v.Event] = []
    effects: list[c.Effect] = [c.CallRemote(request=request, attempt=command.reservation.attempt)]
    flight = state.flights.get(request.id)
    comparing = flight is not None and flight.comparing
    if flight is None:
        if command.local is None:
            route = _remote_route(state, request)
            events += route
            comparing = bool(route[1].turn)
            if comparing and route[1].version is not None:
                effects.append(c.AskLocal(request=request, version=route[1].version, role="champion", shadow=True))
        else:
            assert command.version is not None
            reason = _why_escalated(state, command.local)
            events += _local_first(state, request, command.version, reason, audit=True)
            events.append(local_event(request.id, command.version, command.local))
            comparing = True
    rival = rival_to_ask(state) if comparing and command.reservation.attempt == 1 else None
    if rival is not None:
        effects.append(c.AskLocal(request=request, version=rival, role="rival", shadow=True))
    events.append(command.reservation)
    events.append(
        v.RemoteCallIntended(
            request=request.id,
            attempt=command.reservation.attempt,
            provider=command.provider,
            model=command.model,
            purpose=command.purpose,
            rival=rival,
        )
    )
    return Decision(tuple(events), tuple(effects))


def rival_to_ask(state: TaskState) -> str | None:
    """The version to compare with the champion on answers that are bought anyway; a predecessor only for a while."""
    versions = state.versions
    watched = versions.rival_role == "predecessor" and versions.paired is not None
    if watched and versions.paired is not None and versions.paired.rows >= PREDECESSOR_ROWS:
        return None
    return versions.rival


def reservation_refused(
    state: TaskState, settings: TaskSettings, command: c.ReservationRefused, now_ns: int
) -> Decision:
    """No money: skip an audit, serve the local answer as degraded where that is configured, else refuse."""
    request, flight = command.request, state.flights.get(command.request.id)
    why = command.reason
    if command.purpose == "audit" and flight is not None:
        return Decision((v.AuditMissed(request=request.id, turn=flight.turn, reason=why),))
    if flight is None and isinstance(command.local, c.LocalOk) and settings.on_exhausted == "local":
        assert command.version is not None
        return _serve_local(state, request, command.version, command.local, f"not certified, and {why}", now_ns)
    events: list[v.Event] = []
    if flight is None:
        route = v.RequestRouted(request=request.id, route="remote", phase=state.phase, reason=why, turn=0, audit=False)
        events += [_received(request), route]
    events.append(v.RequestFailed(request=request.id, error=command.error, reason=why))
    if flight is not None and flight.comparing:
        events.append(v.AuditMissed(request=request.id, turn=flight.turn, reason=why))
    error = c.ReplyError(request=request.id, error=command.error, reason=why, reopens=command.reopens)
    return Decision(tuple(events), (error,))


def local_returned(state: TaskState, settings: TaskSettings, command: c.LocalReturned, now_ns: int) -> Decision:
    """A local version is done: serve it, escalate, or note what the shadow said."""
    request, outcome = command.request, command.outcome
    if command.shadow:
        return _shadow(state.flights.get(request.id), command)
    if isinstance(outcome, c.LocalOk) and state.gate is not None and outcome.p_agree >= state.gate:
        return _serve_above_gate(state, request, command.version, outcome, now_ns)
    reserve = c.Reserve(request=request, attempt=1, purpose="serve", local=outcome, version=command.version)
    return Decision(effects=(reserve,))


def remote_returned(state: TaskState, settings: TaskSettings, command: c.RemoteReturned, now_ns: int) -> Decision:
    """The paid call is over: settle, serve or fail, and compare where a comparison is due."""
    flight = state.flights[command.request.id]
    if isinstance(command.outcome, c.RemoteOk):
        return _remote_ok(state, flight, command, command.outcome, now_ns)
    return _remote_bad(state, settings, flight, command, command.outcome, now_ns)


def scored(state: TaskState, settings: TaskSettings, command: c.Scored, now_ns: int) -> Decision:
    """The evaluator is done."""
    flight = state.flights[command.request.id]
    return Decision((score_event(command.request.id, flight, command.score, command.chance, command.rival_score),))


def scoring_failed(state: TaskState, settings: TaskSettings, command: c.ScoringFailed, now_ns: int) -> Decision:
    """The evaluator raised: the pair is a missed audit, and the failure is counted."""
    request, turn = command.request.id, state.flights[command.request.id].turn
    return Decision(
        (
            v.EvaluatorFailed(request=request, turn=turn, reason=command.reason),
            v.AuditMissed(request=request, turn=turn, reason="the evaluator failed"),
        )
    )


# ---------------------------------------------------------------- opening a request


def _received(request: c.Request) -> v.RequestReceived:
    return v.RequestReceived(
        request=request.id, input=request.input, key=request.key, tags=request.tags, holdout=request.holdout
    )


def _remote_route(state: TaskState, request: c.Request) -> tuple[v.RequestReceived, v.RequestRouted]:
    champion = state.versions.champion
    if champion is None:
        routed = v.RequestRouted(
            request=request.id,
            route="remote",
            phase=state.phase,
            reason="no local version exists yet: the remote answers, and its answer becomes an example",
            turn=0,
            audit=False,
        )
    else:
        routed = v.RequestRouted(
            request=request.id,
            route="remote_with_shadow",
            phase=state.phase,
            reason=_why_remote(state),
            turn=state.turns + 1,
            version=champion,
        )
    return _received(request), routed


def _why_remote(state: TaskState) -> str:
    if state.coaching is not None:
        return f"coaching ({state.coaching}): every request is compared"
    return "no gate step is certified: the remote answers, the local model answers in the shadow and is compared"


def _why_escalated(state: TaskState, local: c.LocalOk | c.LocalBad) -> str:
    if isinstance(local, c.LocalBad):
        verb = "failed" if local.kind == "failed" else "was turned down by the validation gate"
        return f"the local answer {verb} ({local.reason}): the remote answers"
    if state.gate is None:
        return "the gate closed while the local model answered: the remote answers"
    return f"p_agree {local.p_agree:.3f} lies under the gate {state.gate:g}: the remote answers"


def _local_first(state: TaskState, request: c.Request, version: str, reason: str, *, audit: bool) -> list[v.Event]:
    return [
        _received(request),
        v.RequestRouted(
            request=request.id,
            route="local_first",
            phase=state.phase,
            reason=reason,
            turn=state.turns + 1,
            audit_probability=state.rate,
            audit=audit,
            version=version,
            gate=state.gate,
        ),
    ]


# ---------------------------------------------------------------- serving


def mean_price_nd(state: TaskState) -> int:
    """What one remote answer of this task has cost on average: the price that a local answer saves."""
    answers = state.counters.remote_answers
    return state.counters.remote_cost_nd // answers if answers else 0


def _latency_ms(request_received_ns: int, now_ns: int) -> float:
    return (now_ns - request_received_ns) / 1e6


def _serve_above_gate(state: TaskState, request: c.Request, version: str, answer: c.LocalOk, now_ns: int) -> Decision:
    audit = request.coin < state.rate
    coin = "audited beside the answer" if audit else "not audited"
    clears = f"p_agree {answer.p_agree:.3f} clears the gate {state.gate:g}"
    reason = f"{clears}: the local model answers, {coin} (rate {state.rate:.3f})"
    events = _local_first(state, request, version, reason, audit=audit)
    events.append(local_event(request.id, version, answer))
    events.append(_served_locally(state, request, answer, None, now_ns))
    effects: list[c.Effect] = [c.Reply(request=request.id, by="local")]
    if audit:
        effects.append(c.Reserve(request=request, attempt=1, purpose="audit"))
    return Decision(tuple(events), tuple(effects))


def _serve_local(
    state: TaskState, request: c.Request, version: str, answer: c.LocalOk, degraded: str, now_ns: int
) -> Decision:
    events = _local_first(state, request, version, degraded, audit=False)
    events.append(local_event(request.id, version, answer))
    events.append(_served_locally(state, request, answer, degraded, now_ns))
    return Decision(tuple(events), (c.Reply(request=request.id, by="local"),))


def _served_locally(
    state: TaskState, request: c.Request, answer: c.LocalOk, degraded: str | None, now_ns: int
) -> v.ResponseServed:
    return v.ResponseServed(
        request=request.id,
        by="local",
        output=answer.output,
        latency_ms=_latency_ms(request.received_ns, now_ns),
        degraded=degraded,
        saved_nd=mean_price_nd(state),
    )


def local_event(
    request: str, version: str, outcome: c.LocalOk | c.LocalBad, *, challenger: bool = False, shadow: bool = False
) -> v.Event:
    """The event of a local outcome."""
    if isinstance(outcome, c.LocalOk):
        return v.LocalAnswered(
            request=request,
            version=version,
            output=outcome.output,
            p_agree=outcome.p_agree,
            latency_ms=outcome.latency_ms,
            challenger=challenger,
            shadow=shadow,
        )
    kind = v.LocalFailed if outcome.kind == "failed" else v.LocalRejected
    return kind(request=request, version=version, reason=outcome.reason, challenger=challenger, shadow=shadow)


def _shadow(flight: Flight | None, command: c.LocalReturned) -> Decision:
    rival = command.role == "rival"
    events = [local_event(command.request.id, command.version, command.outcome, challenger=rival, shadow=True)]
    if flight is None or not flight.comparing:
        return Decision(tuple(events))
    answer = _as_answer(command.version, command.outcome)
    local, other = (flight.local, answer) if rival else (answer, flight.rival)
    compared = compare(command.request, flight, local, other, flight.remote, flight.remote_kind, flight.calling)
    return Decision((*events, *compared.events), compared.effects)


def _as_answer(version: str, outcome: c.LocalOk | c.LocalBad) -> Answer:
    if isinstance(outcome, c.LocalOk):
        return Answer(version=version, output=outcome.output, p_agree=outcome.p_agree)
    return Answer(version=version, output=None, rejected=outcome.kind == "rejected")


# ---------------------------------------------------------------- the remote's answer


def _remote_ok(
    state: TaskState, flight: Flight, command: c.RemoteReturned, answer: c.RemoteOk, now_ns: int
) -> Decision:
    request = command.request
    events: list[v.Event] = [
        v.RemoteAnswered(
            request=request.id,
            attempt=command.attempt,
            model=answer.model,
            output=answer.output,
            cost_nd=answer.cost_nd,
            usage=answer.usage,
            latency_ms=answer.latency_ms,
        ),
    ]
    effects: list[c.Effect] = []
    if not flight.over:
        latency = _latency_ms(request.received_ns, now_ns)
        events.append(v.ResponseServed(request=request.id, by="remote", output=answer.output, latency_ms=latency))
        effects.append(c.Reply(request=request.id, by="remote"))
    compared = compare(request, flight, flight.local, flight.rival, answer.output, None, calling=False)
    events.append(
        v.ExampleCollected(
            request=request.id,
            input=flight.input,
            output=answer.output,
            source="remote",
            holdout=flight.holdout,
            tags=flight.tags,
        )
    )
    events += compared.events
    events.append(_settle(flight, request.id, command.attempt, answer.cost_nd))
    return Decision(tuple(events), (*effects, *compared.effects))


def _remote_bad(
    state: TaskState, settings: TaskSettings, flight: Flight, command: c.RemoteReturned, bad: c.RemoteBad, now_ns: int
) -> Decision:
    request = command.request
    again = bad.kind == "interrupted" and command.attempt < settings.max_attempts and not command.expired
    failed = v.RemoteFailed(
        request=request.id,
        attempt=command.attempt,
        kind=bad.kind,
        reason=bad.reason,
        cost_nd=bad.cost_nd,
        counts_as_disagreement=bad.kind in DISAGREEMENTS,
        final=not again,
    )
    settled = _settle(flight, request.id, command.attempt, bad.cost_nd)
    if again:
        purpose: c.Purpose = "audit" if flight.over else "serve"
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


def _without_remote(
    state: TaskState, settings: TaskSettings, flight: Flight, request: c.Request, bad: c.RemoteBad, now_ns: int
) -> tuple[v.Event, c.Effect]:
    local = flight.local
    if settings.on_remote_down == "local" and bad.kind in OUTAGES and local is not None and local.output is not None:
        answer = c.LocalOk(output=local.output, p_agree=local.p_agree, latency_ms=0.0)
        degraded = f"not certified, and the remote is down: {bad.reason}"
        return _served_locally(state, request, answer, degraded, now_ns), c.Reply(request=request.id, by="local")
    error = _PUBLIC_ERROR.get(bad.kind, "RemoteUnavailable")
    failed = v.RequestFailed(request=request.id, error=error, reason=bad.reason)
    return failed, c.ReplyError(request=request.id, error=error, reason=bad.reason)


def _settle(flight: Flight, request: str, attempt: int, cost_nd: int) -> v.Event:
    if cost_nd == 0:
        return v.BudgetReleased(
            request=request, attempt=attempt, reserved_nd=flight.reserved_nd, reason="the call was not billed"
        )
    return v.BudgetSettled(request=request, attempt=attempt, amount_nd=cost_nd, reserved_nd=flight.reserved_nd)
