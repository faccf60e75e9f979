"""What is said of an answer that is served, and of what a local version said. Pure."""

from apprentice_events import vocabulary as v
from apprentice_events.flights import Flight
from apprentice_events.task_state import TaskState

from . import commands as c


def mean_price_nd(state: TaskState) -> int:
    """What one remote answer of this task has cost on average: the price that a local answer saves."""
    answers = state.counters.remote_answers
    return state.counters.remote_cost_nd // answers if answers else 0


def latency_ms(request_received_ns: int, now_ns: int) -> float:
    return (now_ns - request_received_ns) / 1e6


def served_locally(
    state: TaskState, request: c.Request, answer: c.LocalOk, degraded: str | None, now_ns: int
) -> v.ResponseServed:
    return v.ResponseServed(
        request=request.id,
        by="local",
        output=answer.output,
        latency_ms=latency_ms(request.received_ns, now_ns),
        degraded=degraded,
        saved_nd=mean_price_nd(state),
    )


def standing_in(state: TaskState, request: c.Request, flight: Flight, now_ns: int) -> v.ResponseServed | None:
    """The local answer of a caller who waited for an audit in vain; None where the gate does not let it through."""
    local = flight.local
    if not flight.inline or flight.over or local is None or local.output is None:
        return None
    if state.gate is None or local.p_agree < state.gate:
        return None
    answer = c.LocalOk(output=local.output, p_agree=local.p_agree, latency_ms=0.0)
    return served_locally(state, request, answer, None, now_ns)


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
            cost_nd=outcome.cost_nd,
            novelty=outcome.novelty,
        )
    kind = v.LocalFailed if outcome.kind == "failed" else v.LocalRejected
    return kind(request=request, version=version, reason=outcome.reason, challenger=challenger, shadow=shadow)
