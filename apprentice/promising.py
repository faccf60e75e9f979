"""What is promised about local answers, on how much evidence, and what would change it: in everyday words."""

from collections.abc import Iterable

import msgspec

from apprentice.results import Promise
from apprentice_actors.alerts import UNREACHABLE
from apprentice_actors.policy.certificate import comparisons_at, log_thresholds, log_wealths
from apprentice_actors.policy.correlation import wilson
from apprentice_actors.policy.sampling import noticeable_drop
from apprentice_actors.repeats import mean_of, unreachable
from apprentice_actors.review import judged_gate, present_correlation, rate_floor
from apprentice_actors.settings import TaskSettings
from apprentice_events import vocabulary as v
from apprentice_events.evidence import Tally
from apprentice_events.task_state import TaskState

NOTICED_WITHIN = 1000
"""Locally served requests within which the report says what drop would be noticed."""
Z_BOUND = 1.96
"""Standard normal quantile of the bounds of reported agreements: 95% between them, at one look."""
_FORESEEN_FROM = 20
"""Comparisons at a gate step from which it is guessed how many more a certificate takes."""

JUDGEMENTS: tuple[type[v.Event], ...] = (
    v.ConfigApplied,
    v.EvidenceRestarted,
    v.CertificateIssued,
    v.AlertRaised,
    v.AlertCleared,
)
"""The events that :func:`promised_then` reads of the past."""


def percent(value: float) -> str:
    """A share with as many places as it has, at most one: 90%, 99.5%. Only all is 100%."""
    text = f"{round(100 * value, 1):g}"
    return f"{text}%" if text != "100" or value >= 1.0 else "99.9%"


def bounded(tally: Tally) -> tuple[float | None, float | None, float | None]:
    """The mean of a tally between its Wilson bounds (95%); three times None for an empty one."""
    if not tally.weight:
        return None, None, None
    value, effective = mean_of([tally])
    return value, *wilson(value, effective, Z_BOUND)


def promise(state: TaskState, settings: TaskSettings) -> Promise:
    """Everything about the promise at this moment."""
    return Promise(
        agreement=settings.guarantee,
        alpha=settings.alpha,
        gate=state.gate,
        certified=tuple(sorted(state.certified, reverse=True)),
        comparisons=state.evidence.comparisons,
        epoch=state.evidence.epoch,
        noticed=_noticed(state, settings),
        says=_says(state, settings),
        evidence=_evidence(state, settings),
        changes=_changes(state, settings),
        unreachable=unreachable(state, settings),
    )


def _noticed(state: TaskState, settings: TaskSettings) -> str:
    rate = state.rate if state.phase == "steady_state" else rate_floor(settings)
    drop = noticeable_drop(NOTICED_WITHIN, rate, settings.guarantee, settings.false_alarm_every)
    if drop is None:
        return (
            f"with {percent(rate)} of the local answers checked, even total failure takes more than "
            f"{NOTICED_WITHIN:,} of them to notice"
        )
    return (
        f"with {percent(rate)} of the local answers checked, a fall of agreement to "
        f"{percent(settings.guarantee - drop)} is noticed within {NOTICED_WITHIN:,} of them in 9 of 10 cases"
    )


# ---------------------------------------------------------------- what is promised


def _says(state: TaskState, settings: TaskSettings) -> str:
    least, risk = percent(settings.guarantee), percent(settings.alpha)
    if state.gate is None:
        return (
            f"Nothing is promised yet: the remote model answers everything. Local answers are served once it is shown "
            f"that at least {least} of them agree with the remote model's, with a chance of at most {risk} to be wrong "
            "about that."
        )
    return (
        f"Of the answers that the local model gives ({which(state.gate)}), at least {least} agree with the remote "
        f"model's. The chance that this was certified wrongly is at most {risk}. It speaks of the mean: a single "
        "answer that nobody compared may differ."
    )


def which(gate: float) -> str:
    """The answers that a gate lets through."""
    if gate <= 0.0:
        return "all that it has"
    return f"those where it gives itself a chance of {percent(gate)} or more to agree"


# ---------------------------------------------------------------- on how much evidence


def _evidence(state: TaskState, settings: TaskSettings) -> str:
    evidence = state.evidence
    if not evidence.comparisons:
        since = " since the evidence began again" if evidence.epoch > 1 else ""
        return f"No local answer has been compared with the remote model's{since}."
    gate = judged_gate(state, settings)
    words = f"{_count(evidence.comparisons, 'local answer')} compared with the remote model's"
    if gate is not None:
        words += f", {comparisons_at(evidence, gate):,} of them at or above the gate {gate:g}"
    if evidence.epoch > 1:
        words += f", since the evidence began for the {_ordinal(evidence.epoch)} time"
    value, low, high = bounded(evidence.served_local)
    if value is None or low is None or high is None:
        return f"{words}."
    checked = _count(evidence.served_local.count, "local answer that was served", "local answers that were served")
    between = f"between {percent(low)} and {percent(high)} for all"
    return f"{words}. By {checked} and checked, {percent(value)} agree, {between}."


def _count(count: int, one: str, many: str | None = None) -> str:
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def _ordinal(number: int) -> str:
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10 if number % 100 not in (11, 12, 13) else 0, "th")
    return f"{number}{ending}"


# ---------------------------------------------------------------- what would change it


def _changes(state: TaskState, settings: TaskSettings) -> str:
    if state.gate is not None:
        looser = [step for step in state.evidence.gates if step < state.gate and step not in state.certified]
        more = f" More is served locally once the gate step {looser[0]:g} is certified too." if looser else ""
        return (
            "It ends at once when the comparisons show a sudden fall of agreement, and has to be earned anew when the "
            f"remote model or the guarantee changes; {_noticed(state, settings)}.{more}"
        )
    if state.versions.champion is None:
        missing = max(settings.phase1_to_phase2 - state.collected, 0)
        return f"First a local model has to be trained: {_count(missing, 'more example')} to collect for that."
    return " ".join((_to_certificate(state, settings), _to_correlation(state, settings))).strip()


def _to_certificate(state: TaskState, settings: TaskSettings) -> str:
    if state.certified:
        return "The gate step that it takes is certified."
    evidence = state.evidence
    wealths = dict(zip(evidence.gates, log_wealths(evidence), strict=True))
    asked = log_thresholds(evidence) if evidence.alpha else {}
    nearest = max(asked, key=lambda step: wealths[step] / asked[step], default=None)
    if nearest is None:
        return "A gate step has to be certified."
    count, share = comparisons_at(evidence, nearest), wealths[nearest] / asked[nearest]
    if share <= 0.0 or count < _FORESEEN_FROM:
        return f"A gate step has to be certified; the comparisons so far do not point to {percent(settings.guarantee)}."
    more = _count(max(round(count / share) - count, 1), "more comparison")
    return f"A gate step has to be certified: the nearest one, {nearest:g}, takes about {more} like those so far."


def _to_correlation(state: TaskState, settings: TaskSettings) -> str:
    found = present_correlation(state, settings)
    needed = settings.phase2_to_phase3
    if found is None:
        return f"The correlation, known once half a window is compared, must be {needed:g} or more."
    if found.lower >= needed:
        return ""
    return f"The correlation, at least {found.lower:.2f} now, must be {needed:g} or more."


# ---------------------------------------------------------------- of one request


def promised_then(told: Iterable[v.Event], before: Iterable[v.Event]) -> str:
    """What was promised about the answer to a request, given its own events and the task's :data:`JUDGEMENTS` before.

    Says on how much evidence, whether this answer was itself compared, and what would have made it another one's.
    """
    events, past = list(told), list(before)
    routed = next((event for event in events if isinstance(event, v.RequestRouted)), None)
    served = next((event for event in events if isinstance(event, v.ResponseServed)), None)
    if routed is None or served is None:
        return ""
    parts = [_about_local(routed, served, past) if served.by == "local" else _about_remote(routed, events)]
    scored = next((event for event in events if isinstance(event, v.RemoteScored)), None)
    if scored is not None:
        parts.append(f"Both models' answers to it were compared: they agree to {percent(scored.score)}.")
    elif served.by == "local":
        parts.append("This answer was not compared itself: nothing is known about it alone.")
    standing = _standing(past)
    return " ".join((*parts, *([f"At that time {standing}."] if standing else [])))


def _about_local(routed: v.RequestRouted, served: v.ResponseServed, past: list[v.Event]) -> str:
    if served.degraded is not None or routed.gate is None:
        return "Nothing is promised about this answer: it was served because the remote model could not be asked."
    alpha, guarantee, comparisons = 0.0, 0.0, 0
    for event in past:
        if isinstance(event, v.ConfigApplied):
            alpha = msgspec.json.decode(event.settings, type=TaskSettings).alpha
        elif isinstance(event, v.EvidenceRestarted):
            guarantee = event.guarantee
        elif isinstance(event, v.CertificateIssued) and event.gate == routed.gate:
            comparisons = event.comparisons
    return (
        f"Promised: of local answers like this one ({which(routed.gate)}), at least {percent(guarantee)} agree with "
        f"the remote model's; certified on {_count(comparisons, 'comparison')}, wrongly with a chance of at most "
        f"{percent(alpha)}."
    )


def _about_remote(routed: v.RequestRouted, events: list[v.Event]) -> str:
    words = "This is the remote model's own answer; what is promised is about local answers only."
    local = next((event for event in events if isinstance(event, v.LocalAnswered) and not event.challenger), None)
    if routed.inline:
        return f"{words} It was asked to check the local one, and the caller waited for it."
    if routed.route == "local_first" and local is not None:
        step = f"a gate step of {local.p_agree:.2f} or less"
        return f"{words} The local model would answer such a request once {step} is certified."
    if routed.version is not None:
        return f"{words} The local model begins to answer once a gate step is certified."
    return f"{words} There was no local model yet."


def _standing(past: list[v.Event]) -> str:
    """The alert that the guarantee is out of reach, if it stood at the end of ``past``."""
    message = ""
    for event in past:
        if isinstance(event, v.AlertRaised) and event.alert == UNREACHABLE:
            message = event.message
        elif isinstance(event, v.AlertCleared) and event.alert == UNREACHABLE:
            message = ""
    return message
