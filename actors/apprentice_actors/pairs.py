"""The rules of a comparison: when both sides have spoken, what is scored, what counts as missed. Pure."""

from apprentice_events import vocabulary as v
from apprentice_events.flights import Answer, Flight

from . import commands as c
from .decision import Decision

DISAGREEMENTS = frozenset({"refusal", "cut_off", "invalid"})
"""Remote failures that say something about the pair: the caller cannot have both."""


def compare(
    request: c.Request,
    flight: Flight,
    local: Answer | None,
    rival: Answer | None,
    remote: v.Digest | None,
    remote_kind: str | None,
    calling: bool,
) -> Decision:
    """What follows for a due comparison once both sides (and a rival that was asked) have spoken."""
    if not flight.comparing or calling or local is None:
        return Decision()
    if local.output is None and not local.rejected:
        return miss(request, flight, "the local model failed")
    if remote is not None:
        waiting = flight.rival_asked is not None and rival is None
        return Decision() if waiting else Decision(effects=(c.Score(request=request),))
    if remote_kind in DISAGREEMENTS:
        return Decision((score_event(request.id, flight, 0.0, 0.0, None, local),))
    if remote_kind is not None:
        return miss(request, flight, f"the remote did not answer ({remote_kind})")
    return Decision()


def miss(request: c.Request, flight: Flight, reason: str) -> Decision:
    """The comparison will not come about, and that says nothing about the student."""
    return Decision((v.AuditMissed(request=request.id, turn=flight.turn, reason=reason),))


def score_event(
    request: str, flight: Flight, score: float, chance: float, rival_score: float | None, local: Answer | None = None
) -> v.RemoteScored:
    """The event of a comparison; ``local`` is given where the remote gave no answer, and may not be folded yet."""
    unanswered, local = local is not None, local if local is not None else flight.local
    assert local is not None
    by_local = flight.served == "local" or (flight.inline and unanswered)
    return v.RemoteScored(
        request=request,
        turn=flight.turn,
        version=local.version,
        score=score,
        chance=chance,
        p_agree=local.p_agree,
        audit_probability=bought_with(flight),
        served="local" if by_local else "remote",
        challenger_version=flight.rival.version if flight.rival is not None and rival_score is not None else None,
        challenger_score=rival_score,
        tags=flight.tags,
        inline=flight.inline,
    )


def bought_with(flight: Flight) -> float:
    """The probability with which the remote was bound to be asked: the audit rate above the gate, else 1."""
    return flight.audit_probability if flight.served == "local" or flight.inline else 1.0
