"""Asking a teacher the same question twice: how far it agrees with itself bounds what a student can be held to. Pure.

A student as good as its teacher agrees with it no more often than the teacher with itself. One that always gave the
teacher's commonest answer could do better, yet never beyond the square root of that share: the chance of the commonest
answer is at most the root of the chance that two answers are equal.
"""

from math import sqrt

import msgspec

from apprentice_events import vocabulary as v
from apprentice_events.evidence import Tally
from apprentice_events.flights import Flight
from apprentice_events.task_state import TaskState

from . import commands as c
from .decision import Decision
from .pairs import DISAGREEMENTS, bought_with
from .policy.correlation import wilson
from .settings import TaskSettings

REPEATS_MIN = 20
"""Repeated questions from which something is said about a teacher's agreement with itself."""
Z_BOUND = 2.5758
"""Standard normal quantile of the bounds: 99% between them at one look, to leave room for many looks."""
_LOW_BITS = 2.0**26


class SelfAgreement(msgspec.Struct, frozen=True, kw_only=True):
    """How often the configured teachers gave an equivalent answer when asked again. All in [0, 1]."""

    value: float
    lower: float
    upper: float
    count: int

    @property
    def ceiling(self) -> float:
        """What no student can pass, not even one that always gives the teacher's commonest answer."""
        return sqrt(self.upper)


def asks_twice(settings: TaskSettings, request: c.Request) -> bool:
    """Whether the remote answer to ``request`` is asked for again: the low bits of its coin are a coin of their own."""
    return (request.coin * _LOW_BITS) % 1.0 < settings.self_agreement_rate


def ask_again(flight: Flight, command: c.RemoteReturned) -> tuple[c.Effect, ...]:
    """What follows the first answer to a question that is to be asked twice: money for the second."""
    if not flight.repeat or flight.remote is not None:
        return ()
    attempt = flight.attempt + 1
    again = c.Reserve(request=command.request, attempt=attempt, purpose="repeat", teacher=command.teacher)
    return (again,)


def repeat_ended(flight: Flight, command: c.RemoteReturned) -> tuple[tuple[v.Event, ...], tuple[c.Effect, ...]]:
    """The second answer is there, to be scored, or is not coming. The caller and the student have no part in it."""
    request, outcome = command.request, command.outcome
    if isinstance(outcome, c.RemoteOk):
        return (), (c.ScoreRepeat(request=request),)
    differs = outcome.kind in DISAGREEMENTS
    failed = v.RemoteFailed(
        request=request.id,
        attempt=command.attempt,
        kind=outcome.kind,
        reason=outcome.reason,
        provider=command.teacher,
        cost_nd=outcome.cost_nd,
        counts_as_disagreement=differs,
        final=False,
    )
    end = measured(request, flight, 0.0) if differs else missed(request, f"the remote did not answer ({outcome.kind})")
    return (failed, end), ()


def measured(request: c.Request, flight: Flight, score: float) -> v.Event:
    """A teacher's two answers were compared."""
    assert flight.repeat_attempt is not None
    teacher = flight.asked[flight.repeat_attempt]
    return v.SelfAgreementMeasured(
        request=request.id, teacher=teacher, score=score, audit_probability=bought_with(flight)
    )


def missed(request: c.Request, reason: str) -> v.Event:
    """There are no two answers to compare."""
    return v.SelfAgreementMissed(request=request.id, reason=reason)


def repeat_scored(state: TaskState, settings: TaskSettings, command: c.RepeatScored, now_ns: int) -> Decision:
    """The evaluator is done with the two answers."""
    request = command.request
    if command.score is None:
        return Decision((missed(request, f"the evaluator failed: {command.reason}"),))
    return Decision((measured(request, state.flights[request.id], command.score),))


# ---------------------------------------------------------------- what the repeats amount to


def self_agreement(state: TaskState, settings: TaskSettings) -> SelfAgreement | None:
    """The estimate over the configured teachers (all that are known, if none is named); None before enough repeats."""
    names = [name for name, _ in settings.licences] or list(state.teachers.known)
    tallies = [state.teachers.known[name].repeats for name in names if name in state.teachers.known]
    count = sum(one.count for one in tallies)
    if count < REPEATS_MIN:
        return None
    value, effective = mean_of(tallies)
    lower, upper = wilson(value, effective, Z_BOUND)
    return SelfAgreement(value=value, lower=lower, upper=upper, count=count)


def mean_of(tallies: list[Tally]) -> tuple[float, float]:
    """Weighted mean of tallies that are not all empty, and their effective number of comparisons (Kish)."""
    weight = sum(one.weight for one in tallies)
    return sum(one.agreement for one in tallies) / weight, weight * weight / sum(one.squares for one in tallies)


def unreachable(state: TaskState, settings: TaskSettings) -> str | None:
    """Why the guarantee is out of reach, in words; None where it is not known to be, or a gate step is certified."""
    found = self_agreement(state, settings)
    if found is None or found.upper >= settings.guarantee or state.certified:
        return None
    words = (
        f"asked the same question twice, the remote model gave an equivalent answer in {found.value:.0%} of "
        f"{found.count} cases, {found.upper:.0%} at the most; the local model cannot be expected to agree with it in "
        f"{settings.guarantee:.0%}"
    )
    if found.ceiling < settings.guarantee:
        words += f", and no model at all could in more than {found.ceiling:.0%}"
    return (
        f"{words}. Lower guarantee.agreement, compare fewer fields, or make the remote model steadier (temperature 0, "
        "clearer instructions); else at best the requests on which it is steady can be served locally"
    )
