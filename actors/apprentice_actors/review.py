"""The standing rules: what follows from the state itself after a comparison, a training or a new configuration. Pure.

Each rule looks at the state and returns what it calls for; the caller folds that before it asks the next rule, in the
order of :data:`RULES`. Run again on an unchanged state they return nothing: looking never moves anything.
What a rule reads has to be known to :mod:`quiet`, which tells after which events they need not be asked.
Rules of judgement: thresholds act from half a window on, and on bounds; the gate and the rate move once per comparison.
"""

from collections.abc import Callable
from math import inf

from apprentice_events import vocabulary as v
from apprentice_events.task_state import TaskState

from . import commands as c
from .alerts import alert, watch_audits, watch_inputs, watch_licences, watch_self_agreement, watch_shadow
from .decision import NOTHING, Decision
from .epochs import restarted
from .erasing import watch_erased
from .lessons import begin_training
from .policy.burst import bursts, pays_after, worthwhile
from .policy.certificate import certificates
from .policy.correlation import Correlation, correlation, wilson, window
from .policy.drift import drift_verdict, shift_verdict
from .policy.gate import next_gate, trial_gate
from .policy.pacing import paced_rate
from .policy.promotion import judge_challenger, judge_predecessor
from .policy.renewal import spoiled
from .policy.sampling import applied_rate, detect_floor, held_correlation, target_rate
from .settings import TaskSettings
from .tidings import watch_teachers

type Rule = Callable[[TaskState, TaskSettings], Decision]


def judged_gate(state: TaskState, settings: TaskSettings) -> float | None:
    """The gate whose window decides: the one in force, before graduation the one on trial."""
    if state.gate is not None:
        return state.gate
    trial = trial_gate(state.evidence, settings.guarantee)
    return trial if trial is not None else max(state.certified, default=None)


def present_correlation(state: TaskState, settings: TaskSettings) -> Correlation | None:
    """The correlation of the window that decides, once it is half full; None before."""
    estimate = window(state.evidence, judged_gate(state, settings))
    if estimate is None:
        return None
    found = correlation(estimate, state.evidence.window_size, settings.classes)
    return found if found.settled else None


def rate_floor(settings: TaskSettings) -> float:
    """The least audit rate: the configured floor, raised to what ``detect`` takes."""
    if settings.detect_drop is None or settings.detect_within is None:
        return settings.min_floor
    needed = detect_floor(settings.detect_drop, settings.detect_within, settings.guarantee, settings.false_alarm_every)
    return max(settings.min_floor, needed)


# ---------------------------------------------------------------- evidence and alarms


def keep_evidence_current(state: TaskState, settings: TaskSettings) -> Decision:
    """Evidence belongs to a guarantee, a grid and a remote model; a changed one starts it again."""
    evidence = state.evidence
    if evidence.epoch == 0:
        return Decision((restarted(state, settings, "the first evidence of this task"),))
    promised = (evidence.guarantee, evidence.gates, evidence.window_size, evidence.false_alarm_every)
    if promised != (settings.guarantee, settings.gates, settings.window_size, settings.false_alarm_every):
        return Decision((restarted(state, settings, "the configuration of the guarantee changed"),))
    if state.teachers.change is not None:
        return Decision((restarted(state, settings, f"the remote model changed: {state.teachers.change}"),))
    return NOTHING


def renew_evidence(state: TaskState, settings: TaskSettings) -> Decision:
    """Give up an epoch that a former student spoiled, once the present one has agreed for a whole window.

    What was compared during a collapse would have to be outweighed ten times at a guarantee of 0.9. A fresh epoch costs
    only its smaller share of the error budget, and the window that called for it does not count in it.
    """
    evidence = state.evidence
    if state.phase != "reinforcement" or state.certified or not spoiled(evidence):
        return NOTHING
    recent = window(evidence, trial_gate(evidence, settings.guarantee))
    if recent is None or recent.count < evidence.window_size:
        return NOTHING
    lower, _ = wilson(recent.agreement, recent.effective)
    if lower < settings.guarantee:
        return NOTHING
    reason = f"the last {recent.count} comparisons agree to {recent.agreement:.2f}, the evidence before them does not"
    return Decision((restarted(state, settings, reason),))


def heed_shift(state: TaskState, settings: TaskSettings) -> Decision:
    """A sudden fall of agreement revokes every certificate and starts the evidence again."""
    verdict = shift_verdict(state.evidence)
    if state.phase != "steady_state" or not verdict.alarm:
        return NOTHING
    reason = f"agreement of audited answers fell (log evidence {verdict.statistic:.1f} of {verdict.threshold:.1f})"
    return Decision(
        (
            v.ShiftDetected(statistic=verdict.statistic, threshold=verdict.threshold, reason=reason),
            v.CertificateRevoked(gate=None, epoch=state.evidence.epoch, reason=reason),
            restarted(state, settings, reason),
            *alert(state, "quality", "critical", f"{reason}; the remote answers until the evidence is back"),
        )
    )


def heed_drift(state: TaskState, settings: TaskSettings) -> Decision:
    """Slow decay starts coaching."""
    verdict = drift_verdict(state.evidence)
    if state.phase != "steady_state" or not verdict.alarm or state.coaching is not None:
        return NOTHING
    reason = f"agreement of audited answers wears away (log evidence {verdict.statistic:.1f})"
    drifted = v.DriftDetected(statistic=verdict.statistic, threshold=verdict.threshold, reason=reason)
    return Decision((drifted, *_start_coaching(state, reason, None)))


def heed_emergency(state: TaskState, settings: TaskSettings) -> Decision:
    """Correlation under the emergency threshold, with its upper bound, ends local serving; it can be earned again."""
    if state.phase != "steady_state":
        return NOTHING
    found = present_correlation(state, settings)
    if found is None or found.upper >= settings.emergency_threshold:
        return NOTHING
    reason = f"correlation {found.value:.3f} is under the emergency threshold {settings.emergency_threshold:g}"
    return Decision(
        (
            v.CertificateRevoked(gate=None, epoch=state.evidence.epoch, reason=reason),
            restarted(state, settings, reason),
            *alert(state, "quality", "critical", f"{reason}; the remote answers until the evidence is back"),
        )
    )


def issue_certificates(state: TaskState, settings: TaskSettings) -> Decision:
    """A step whose process passed its share of 1/alpha is certified; the certificate stands until it is revoked."""
    passed = certificates(state.evidence, state.certified)
    return Decision(
        tuple(
            v.CertificateIssued(
                gate=one.gate,
                epoch=state.evidence.epoch,
                log_wealth=one.wealth,
                log_threshold=one.threshold,
                comparisons=one.comparisons,
            )
            for one in passed
        )
    )


# ---------------------------------------------------------------- phase, gate, rate, coaching


def move_phase(state: TaskState, settings: TaskSettings) -> Decision:
    """Cold start ends with the first champion; graduation needs correlation and a certificate; both can be lost."""
    if state.phase == "cold_start" and state.versions.champion is not None:
        return _to(state, "reinforcement", f"{state.versions.champion} is ready and answers in the shadow")
    if state.phase == "reinforcement" and state.certified and state.versions.champion is not None:
        found = present_correlation(state, settings)
        if found is not None and found.lower >= settings.phase2_to_phase3:
            return _graduate(state, found, settings)
    if state.phase == "steady_state" and not state.certified:
        reason = "no certified gate step is left"
        closed = (v.GateChanged(before=state.gate, after=None, reason=reason),) if state.gate is not None else ()
        rate = v.SamplingRateChanged(before=state.rate, after=1.0, target=1.0, correlation=None, reason=reason)
        ended = _end_coaching(state, "every request is compared anyway") if state.coaching is not None else ()
        return Decision((*closed, *_to(state, "reinforcement", reason).events, rate, *ended))
    return NOTHING


def _graduate(state: TaskState, found: Correlation, settings: TaskSettings) -> Decision:
    gate = next_gate(None, state.certified)
    kind = "correlation" if found.corrected else "agreement (standing in for correlation)"
    reason = (
        f"{kind} {found.value:.3f}, at least {found.lower:.3f}, is over {settings.phase2_to_phase3:g}, "
        f"and {_steps(len(state.certified))} certified"
    )
    cleared = (v.AlertCleared(alert="quality"),) if "quality" in state.alerts else ()
    opened = v.GateChanged(before=None, after=gate, reason="the tightest certified step")
    return Decision((*_to(state, "steady_state", reason).events, opened, *cleared))


def _steps(count: int) -> str:
    return "1 gate step is" if count == 1 else f"{count} gate steps are"


def _to(state: TaskState, phase: v.Phase, reason: str) -> Decision:
    return Decision((v.PhaseChanged(before=state.phase, after=phase, reason=reason),))


def move_gate(state: TaskState, settings: TaskSettings) -> Decision:
    """Open by one certified step per comparison; fall at once to what is still certified."""
    if state.phase != "steady_state" or state.gate is None:
        return NOTHING
    after = next_gate(state.gate, state.certified)
    opens = after is not None and after < state.gate
    if after == state.gate or (opens and state.evidence.comparisons <= state.gate_moved_at):
        return NOTHING
    reason = "the next step is certified" if opens else "the step's certificate is gone"
    return Decision((v.GateChanged(before=state.gate, after=after, reason=reason),))


def move_coaching(state: TaskState, settings: TaskSettings) -> Decision:
    """Start when correlation is too low with confidence; end when it is back for half a window, or the money is out."""
    if state.phase != "steady_state":
        return NOTHING
    found = present_correlation(state, settings)
    if state.coaching is None:
        if found is not None and found.upper < settings.coaching_trigger and _rested(state, settings):
            reason = f"correlation {found.value:.3f} is under the coaching trigger {settings.coaching_trigger:g}"
            return Decision(_start_coaching(state, reason, found.value))
        return NOTHING
    if settings.coaching_budget_nd is not None and state.coaching_spent_nd >= settings.coaching_budget_nd:
        return Decision(_end_coaching(state, "its share of the budget is spent"))
    long_enough = 2 * (state.evidence.comparisons - state.coaching_since) >= settings.window_size
    if long_enough and found is not None and found.value >= settings.phase2_to_phase3:
        return Decision(_end_coaching(state, f"correlation is back at {found.value:.3f}"))
    return NOTHING


def _rested(state: TaskState, settings: TaskSettings) -> bool:
    """Whether the window speaks of what came after the last coaching; else one that ran out of money never ends."""
    until = state.coached_until
    return until is None or state.evidence.comparisons - until >= settings.window_size


def _start_coaching(state: TaskState, reason: str, value: float | None) -> tuple[v.Event, ...]:
    message = f"coaching: {reason}; every request is compared and training is triggered"
    return v.CoachingStarted(reason=reason, correlation=value), *alert(state, "coaching", "warning", message)


def _end_coaching(state: TaskState, reason: str) -> tuple[v.Event, ...]:
    cleared = (v.AlertCleared(alert="coaching"),) if "coaching" in state.alerts else ()
    return v.CoachingEnded(reason=reason), *cleared


def move_rate(state: TaskState, settings: TaskSettings) -> Decision:
    """One small step per comparison towards the rate that the correlation, or a burst that pays, calls for."""
    called = _called_for(state, settings)
    if called is None:
        return NOTHING
    held, target = called
    floor = rate_floor(settings)
    reason = f"correlation {held:.3f} calls for {target:.3f}; at most 0.05 a comparison"
    offers = bursts(state.evidence, state.certified, state.gate or 0.0, target)
    burst = worthwhile(offers, state.counters.requests)
    if burst is not None:
        target = 1.0
        reason = f"opening the step {burst.step:g} costs about {burst.price:.0f} calls and saves {burst.saving:.0f}"
    if settings.pacing and state.pace < 1.0:
        target = paced_rate(target, floor, state.pace)
        reason = f"{reason}; paced to {target:.3f}, for the budget runs ahead of its time"
    after = applied_rate(state.rate, target, floor=floor)
    if after == state.rate:
        return NOTHING
    return Decision(
        (v.SamplingRateChanged(before=state.rate, after=after, target=target, correlation=held, reason=reason),)
    )


def _called_for(state: TaskState, settings: TaskSettings) -> tuple[float, float] | None:
    """The correlation that the rate answers to and the rate that it calls for; None where the rate stays as it is."""
    if state.phase != "steady_state" or state.coaching is not None:
        return None
    if state.evidence.comparisons <= state.rate_moved_at:
        return None
    found = present_correlation(state, settings)
    if found is None:
        return None
    held = held_correlation(state.rate_correlation, found.value, settings.trend_sensitivity)
    return held, target_rate(held, settings.phase2_to_phase3, rate_floor(settings), settings.decay)


def burst_due(state: TaskState, settings: TaskSettings) -> float:
    """Up to how many requests :func:`move_rate` wants no burst that it does not want now; may be infinite."""
    called = _called_for(state, settings)
    if called is None:
        return inf
    offers = bursts(state.evidence, state.certified, state.gate or 0.0, called[1])
    return inf if worthwhile(offers, state.counters.requests) is not None else pays_after(offers)


# ---------------------------------------------------------------- versions and training


def judge_rival(state: TaskState, settings: TaskSettings) -> Decision:
    """Promote or dismiss the challenger on live pairs; go back to a predecessor that is better."""
    versions = state.versions
    paired, rival, champion = versions.paired, versions.rival, versions.champion
    if paired is None or rival is None or champion is None:
        return NOTHING
    if versions.rival_role == "predecessor":
        reason = judge_predecessor(paired)
        if reason is None:
            return NOTHING
        back = v.AdapterRolledBack(version=champion, to=rival, reason=reason)
        raised = alert(state, "rollback", "warning", f"{champion} was rolled back to {rival}: {reason}")
        return Decision((back, *raised), (c.DropVersion(version=champion),))
    verdict = judge_challenger(paired)
    if verdict is None:
        return NOTHING
    accepted, reason = verdict
    if accepted:
        cleared = (v.AlertCleared(alert="rollback"),) if "rollback" in state.alerts else ()
        return Decision((v.AdapterPromoted(version=rival, before=champion, reason=reason), *cleared))
    rejected = v.AdapterRejected(
        version=rival, score=None, incumbent=champion, incumbent_score=None, rows=paired.rows, reason=reason
    )
    return Decision((rejected,), (c.DropVersion(version=rival, delete=True),))


def trigger_training(state: TaskState, settings: TaskSettings) -> Decision:
    """Train when it is due as of the last event; what time alone brings about is looked at when it passes."""
    return begin_training(state, settings, state.time_ns)


def retire_versions(state: TaskState, settings: TaskSettings) -> Decision:
    """Keep the last few versions on disk; champion and rival are never retired, what was rolled back goes first."""
    versions = state.versions
    in_use = {versions.champion, versions.rival, versions.candidate}
    kept = versions.kept()
    idle = sorted(
        (name for name in kept if name not in in_use), key=lambda name: versions.known[name].status != "rolled_back"
    )
    surplus = idle[: max(0, len(kept) - settings.keep_versions)]
    if not surplus:
        return NOTHING
    reason = f"the last {settings.keep_versions} versions are kept"
    return Decision(
        tuple(v.AdapterRetired(version=name, reason=reason) for name in surplus),
        tuple(c.DropVersion(version=name, delete=True) for name in surplus),
    )


RULES: tuple[Rule, ...] = (
    keep_evidence_current,
    heed_shift,
    heed_drift,
    heed_emergency,
    judge_rival,
    issue_certificates,
    renew_evidence,
    move_phase,
    move_gate,
    move_coaching,
    move_rate,
    trigger_training,
    retire_versions,
    watch_audits,
    watch_licences,
    watch_teachers,
    watch_shadow,
    watch_self_agreement,
    watch_inputs,
    watch_erased,
)
