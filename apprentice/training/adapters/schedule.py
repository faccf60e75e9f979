"""Which examples each step of each process takes, and how large the step is: functions of counts and the seed."""

import math
import random
from collections.abc import Sequence

_WARM_UP_SHARE = 0.05

TRAINING_SHARE = 0.85
"""How much of ``max_minutes`` may be over when the last step begins; the rest is for measuring and writing."""


def steps_of(rows: int, *, epochs: int, per_step: int, seed: int, max_steps: int | None) -> list[list[int]]:
    """The rows of every optimizer step: ``epochs`` passes, each in an order of its own, cut into steps."""
    chance = random.Random(seed)
    order: list[int] = []
    for _ in range(epochs):
        order += chance.sample(range(rows), rows)
    steps = [order[at : at + per_step] for at in range(0, len(order), per_step)]
    return steps if max_steps is None else steps[:max_steps]


def share_of(step: Sequence[int], *, process: int, processes: int, batch: int, accumulation: int) -> list[list[int]]:
    """The batches of one process in a step, ``accumulation`` of them; the last step's may be short or empty."""
    starts = ((turn * processes + process) * batch for turn in range(accumulation))
    return [list(step[start : start + batch]) for start in starts]


def learning_rate(step: int, steps: int, highest: float) -> float:
    """Linear warm-up over a twentieth of the steps, then half a cosine down to 0, which no step gets."""
    warm_up = max(1, round(steps * _WARM_UP_SHARE))
    if step < warm_up:
        return highest * (step + 1) / (warm_up + 1)
    return highest * 0.5 * (1.0 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))


def evaluation_every(steps: int) -> int:
    """Steps between two evaluations: about ten of them in a training."""
    return max(1, steps // 10)
