"""Carrying out a comparison: the evaluator's score of both versions, and of the local answer against chance."""

import logging
from itertools import islice
from typing import TYPE_CHECKING

from . import commands as c
from .live import Live
from .ports import Evaluator, JsonObject

if TYPE_CHECKING:
    from .task import TaskSupervisor

logger = logging.getLogger(__name__)

CHANCE_PAIRS = 4
"""Previous remote answers that the local answer is scored against, for agreement by chance."""


async def compare(task: "TaskSupervisor", effect: c.Score) -> c.Command:
    """Score the pair; whatever the evaluator raises is contained and counted."""
    live, evaluator = task.live[effect.request.id], task.ports.evaluator
    others = [output for name, output in reversed(task.recent) if name != effect.request.id]
    try:
        score = _within(await evaluator.score(live.local, live.remote, live.question))
        chance = await _chance(evaluator, live, list(islice(others, CHANCE_PAIRS)))
        rival_score = None
        flight = task.state.flights.get(effect.request.id)
        if flight is not None and flight.rival is not None:
            rival_score = _within(await evaluator.score(live.rival, live.remote, live.question))
    except Exception as error:
        logger.warning("the evaluator %s failed on %s", evaluator.name, effect.request.id, exc_info=error)
        return c.ScoringFailed(request=effect.request, reason=repr(error))
    return c.Scored(request=effect.request, score=score, chance=chance, rival_score=rival_score)


async def compare_repeat(task: "TaskSupervisor", effect: c.ScoreRepeat) -> c.Command:
    """Score a teacher's second answer against its first one."""
    live, evaluator = task.live[effect.request.id], task.ports.evaluator
    try:
        score = _within(await evaluator.score(live.repeat, live.remote, live.question))
    except Exception as error:
        logger.warning("the evaluator %s failed on %s", evaluator.name, effect.request.id, exc_info=error)
        return c.RepeatScored(request=effect.request, score=None, reason=repr(error))
    return c.RepeatScored(request=effect.request, score=score)


async def _chance(evaluator: Evaluator, live: Live, others: list[JsonObject]) -> float:
    if live.local is None or not others:
        return 0.0
    total = 0.0
    for other in others:
        total += _within(await evaluator.score(live.local, other, live.question))
    return total / len(others)


def _within(score: float) -> float:
    if not 0.0 <= score <= 1.0:
        raise ValueError(f"the evaluator gave {score!r}; a score lies between 0 and 1")
    return float(score)
