"""Standing rules that call for a person: what is not watched, not licensed, silent or out of reach. Pure."""

from apprentice_events import vocabulary as v
from apprentice_events.task_state import TaskState

from .decision import NOTHING, Decision
from .repeats import unreachable
from .settings import TaskSettings

UNREACHABLE = "unreachable"
"""The alert that the guarantee asks for more than the remote model holds to itself."""
INPUTS = "inputs"
"""The alert that inputs look unlike those trained on."""
INPUTS_MIN = 100
"""Answers of a champion after which its inputs are spoken of."""
UNUSUAL_MANY, UNUSUAL_FEW = 0.15, 0.10
"""Share of unusual inputs at which the hint begins and ends; a twentieth is usual."""


def alert(state: TaskState, name: str, severity: str, message: str) -> tuple[v.Event, ...]:
    """The alert's event, unless the alert stands already."""
    if name in state.alerts:
        return ()
    return (v.AlertRaised(alert=name, severity=severity, message=message),)  # type: ignore[arg-type]  # callers give literals


def watch_audits(state: TaskState, settings: TaskSettings) -> Decision:
    """Too many audits missed in a row: what is served is no longer watched, and somebody should know."""
    missed = state.evidence.missed_in_a_row
    broke = settings.pacing and state.pace <= 0.0
    if state.phase == "steady_state" and broke:
        message = "the budget has no money left for audits, not even at the floor; answers are served uncertified"
        return Decision(alert(state, "uncertified", "critical", message))
    if state.phase == "steady_state" and missed >= settings.missed_in_a_row:
        message = f"{missed} audits in a row did not come about; answers are served uncertified"
        return Decision(alert(state, "uncertified", "critical", message))
    if missed == 0 and not broke and "uncertified" in state.alerts:
        return Decision((v.AlertCleared(alert="uncertified"),))
    return NOTHING


def watch_licences(state: TaskState, settings: TaskSettings) -> Decision:
    """Whether answers may be trained on is a person's decision; until it is made, that stands as an alert."""
    undecided = [name for name, licence in settings.licences if licence == "unknown"]
    usable = [name for name, licence in settings.licences if licence != "disallowed"]
    if settings.licences and not usable:
        message = (
            "no provider's answers may be trained on, so the local model learns nothing; the task is served by the "
            "remote, budgeted and logged. Add a provider with `distillation: allowed`, or import examples of your own"
        )
        return Decision(alert(state, "licence", "critical", message))
    if undecided:
        message = (
            f"the answers of {', '.join(undecided)} train a model, and nobody has said whether the provider's terms "
            "allow it. Read them (terms of service, the sections on outputs and on competing models), then write "
            "`distillation: allowed` or `disallowed` beside the provider in the configuration"
        )
        return Decision(alert(state, "licence", "warning", message))
    return Decision((v.AlertCleared(alert="licence"),)) if "licence" in state.alerts else NOTHING


def watch_shadow(state: TaskState, settings: TaskSettings) -> Decision:
    """A shadow that is asked and never answers teaches nothing."""
    silent = state.counters.shadow_silent
    if silent >= settings.missed_in_a_row:
        message = f"the local model was asked {silent} times in a row in the shadow and did not answer"
        return Decision(alert(state, "shadow", "critical", message))
    over = silent == 0 and "shadow" in state.alerts
    return Decision((v.AlertCleared(alert="shadow"),)) if over else NOTHING


def watch_self_agreement(state: TaskState, settings: TaskSettings) -> Decision:
    """A guarantee above what the teacher shows when asked twice is not going to be met; somebody should know."""
    why = unreachable(state, settings)
    if why is None:
        return Decision((v.AlertCleared(alert=UNREACHABLE),)) if UNREACHABLE in state.alerts else NOTHING
    return Decision(alert(state, UNREACHABLE, "warning", f"the guarantee is out of reach: {why}"))


def watch_inputs(state: TaskState, settings: TaskSettings) -> Decision:
    """Inputs unlike those trained on are a hint of drift, and only that: nothing is decided by it."""
    inputs = state.inputs
    if inputs.count >= INPUTS_MIN and inputs.unusual >= UNUSUAL_MANY:
        message = (
            f"about {inputs.unusual:.0%} of recent inputs look unlike those trained on (usual: 5%). A hint only: what "
            "is served is decided by comparisons with the remote model"
        )
        return Decision(alert(state, INPUTS, "info", message))
    over = INPUTS in state.alerts and inputs.unusual < UNUSUAL_FEW
    return Decision((v.AlertCleared(alert=INPUTS),)) if over else NOTHING
