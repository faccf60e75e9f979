"""``decide(state, settings, command, now_ns) -> Decision``: the one door into the pure core.

It is a table from commands to the functions of :mod:`journey` and :mod:`lessons`. It never changes the state; the
caller folds the events, asks the standing rules of :mod:`review`, and starts the effects once everything is durable.
"""

from collections.abc import Callable
from typing import Any

from apprentice_events.task_state import TaskState

from . import commands as c
from . import erasing, journey, lessons, operating, outcomes, repeats, tidings
from .decision import NOTHING, Decision
from .settings import TaskSettings

type Decide = Callable[[TaskState, TaskSettings, Any, int], Decision]


def _review(state: TaskState, settings: TaskSettings, command: c.Review, now_ns: int) -> Decision:
    return NOTHING


_TABLE: dict[type[Any], Decide] = {
    c.Submit: journey.submit,
    c.Reserved: journey.reserved,
    c.HedgeDue: journey.hedge_due,
    c.ReservationRefused: journey.reservation_refused,
    c.LocalReturned: journey.local_returned,
    c.RemoteReturned: outcomes.remote_returned,
    c.Scored: journey.scored,
    c.ScoringFailed: journey.scoring_failed,
    c.RepeatScored: repeats.repeat_scored,
    c.TrainingBegan: lessons.training_began,
    c.TrainingMoved: lessons.training_moved,
    c.TrainingDone: lessons.training_done,
    c.TrainingBroke: lessons.training_broke,
    c.ValidationDone: lessons.validation_done,
    c.ValidationBroke: lessons.validation_broke,
    c.CorrectionGiven: lessons.correction_given,
    c.FeedbackGiven: lessons.feedback_given,
    c.OperatorAsked: operating.operator_asked,
    c.TimePassed: lessons.time_passed,
    c.EraseAsked: erasing.erase_asked,
    c.TeacherNoticed: tidings.teacher_noticed,
    c.Paced: tidings.paced,
    c.Review: _review,
}


def decide(state: TaskState, settings: TaskSettings, command: c.Command, now_ns: int) -> Decision:
    """What to record and what to start, given the state, the rules, one command and the time (UTC, ns)."""
    return _TABLE[type(command)](state, settings, command, now_ns)
