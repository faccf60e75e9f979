"""The decisions of a request's journey: which way it goes, what is recorded, what happens next. Pure.

Money before calls, intent before outcome, and nothing durable before it is needed: a local answer costs one commit (its
events are written together, when it is served), a remote or escalated one two (the intent, the outcome).
"""

from apprentice_events import vocabulary as v
from apprentice_events.flights import Answer, Flight
from apprentice_events.task_state import TaskState

from . import commands as c
from .decision import Decision
from .pairs import compare, score_event
from .repeats import asks_twice, missed
from .serving import local_event, served_locally, standing_in
from .settings import TaskSettings

PREDECESSOR_ROWS = 200
"""Compared requests for which a new champion's predecessor is kept in the shadow, ready to come back."""


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
    attempt, teacher = command.reservation.attempt, f"{command.provider}/{command.model}"
    repeat, flight = command.purpose == "repeat", state.flights.get(request.id)
    effects: list[c.Effect] = [c.CallRemote(request=request, attempt=attempt, teacher=teacher, repeat=repeat)]
    awaited = command.purpose == "serve" or (flight is not None and flight.inline and not flight.over)
    if settings.hedge_after_s is not None and attempt == 1 and awaited:
        effects.append(c.Hedge(request=request, attempt=attempt, after_s=settings.hedge_after_s))
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
    rival = rival_to_ask(state) if comparing and attempt == 1 else None
    if rival is not None:
        effects.append(c.AskLocal(request=request, version=rival, role="rival", shadow=True))
    events.append(command.reservation)
    events.append(
        v.RemoteCallIntended(
            request=request.id,
            attempt=attempt,
            provider=command.provider,
            model=command.model,
            purpose=command.purpose,
            hedge=command.hedge,
            rival=rival,
            repeat=not repeat and asks_twice(settings, request),
        )
    )
    return Decision(tuple(events), tuple(effects))


def hedge_due(state: TaskState, settings: TaskSettings, command: c.HedgeDue, now_ns: int) -> Decision:
    """The first call is slow: find the money for a second one beside it; whichever answers first is served."""
    flight = state.flights.get(command.request.id)
    if flight is None or flight.over or list(flight.calls) != [command.attempt]:
        return Decision()
    attempt = command.attempt + 1
    return Decision(effects=(c.Reserve(request=command.request, attempt=attempt, purpose="serve", hedge=True),))


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
    if command.purpose == "repeat":
        return Decision((missed(request, why),))
    if flight is not None and flight.calls:  # a hedge that finds no money or no teacher: the first call is still out
        return Decision()
    down = command.error == "RemoteUnavailable"
    fallback = settings.on_remote_down if down else settings.on_exhausted
    if command.purpose == "audit" and flight is not None:
        audit = v.AuditMissed(request=request.id, turn=flight.turn, reason=why)
        instead = standing_in(state, request, flight, now_ns)
        if instead is not None:
            return Decision((audit, instead), (c.Reply(request=request.id, by="local"),))
        if flight.over:
            return Decision((audit,))
    champion = state.versions.champion
    if flight is None and command.local is None and champion is not None and fallback == "local" and down:
        return Decision(effects=(c.AskLocal(request=request, version=champion, role="champion"),))  # then it asks again
    if flight is None and isinstance(command.local, c.LocalOk) and fallback == "local":
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
        return _serve_above_gate(state, settings, request, command.version, outcome, now_ns)
    reserve = c.Reserve(request=request, attempt=1, purpose="serve", local=outcome, version=command.version)
    return Decision(effects=(reserve,))


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


def _local_first(
    state: TaskState, request: c.Request, version: str, reason: str, *, audit: bool, inline: bool = False
) -> list[v.Event]:
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
            inline=inline,
        ),
    ]


# ---------------------------------------------------------------- serving


def _serve_above_gate(
    state: TaskState, settings: TaskSettings, request: c.Request, version: str, answer: c.LocalOk, now_ns: int
) -> Decision:
    audit = request.coin < state.rate
    inline = audit and settings.audit == "inline"
    does = "the local model answers, audited beside the answer" if audit else "the local model answers, not audited"
    if inline:
        does = "audited before the answer, so the remote answers"
    clears = f"p_agree {answer.p_agree:.3f} clears the gate {state.gate:g}"
    reason = f"{clears}: {does} (rate {state.rate:.3f})"
    events = _local_first(state, request, version, reason, audit=audit, inline=inline)
    events.append(local_event(request.id, version, answer))
    if inline:
        return Decision(tuple(events), (c.Reserve(request=request, attempt=1, purpose="audit"),))
    events.append(served_locally(state, request, answer, None, now_ns))
    effects: list[c.Effect] = [c.Reply(request=request.id, by="local")]
    if audit:
        effects.append(c.Reserve(request=request, attempt=1, purpose="audit"))
    return Decision(tuple(events), tuple(effects))


def _serve_local(
    state: TaskState, request: c.Request, version: str, answer: c.LocalOk, degraded: str, now_ns: int
) -> Decision:
    events = _local_first(state, request, version, degraded, audit=False)
    events.append(local_event(request.id, version, answer))
    events.append(served_locally(state, request, answer, degraded, now_ns))
    return Decision(tuple(events), (c.Reply(request=request.id, by="local"),))


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
