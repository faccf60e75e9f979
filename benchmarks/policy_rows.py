"""A world of recorded rows for :mod:`benchmarks.policy_sim`: real inputs and answers, and a student that is fitted."""

import random
from collections.abc import Callable, Hashable, Sequence
from typing import Protocol

from apprentice_actors.policy.holdout import held_out, input_hash
from apprentice_actors.ports import Example, JsonObject
from benchmarks.policy_world import Lesson, Said


class Fitted(Protocol):
    """A trained model, such as :class:`apprentice.local.student.Student`."""

    def answer(self, inputs: Sequence[JsonObject]) -> Sequence[tuple[JsonObject, float]]:
        """For each input the answer and the probability that the remote model would agree."""
        ...


type Fit = Callable[[list[Example], list[Example]], Fitted]
"""From rows to train on and held-out rows to a model."""
type Score = Callable[[JsonObject, JsonObject], float]
"""The evaluator: local output, remote output."""


class RowWorld:
    """Recorded requests, played in the order of ``rows``. Implements :class:`benchmarks.policy_world.World`."""

    def __init__(self, rows: Sequence[Example], fit: Fit, score: Score, *, holdout_share: float, seed: int = 0) -> None:
        """``seed`` gives the audit coins; which rows are held out follows from their inputs, as in life."""
        self.rows = rows
        self.models: dict[str, Fitted] = {}
        """Every version that was made."""
        self._fit = fit
        self._score = score
        chance = random.Random(f"{seed}/coins")
        self._coins = [chance.random() for _ in rows]
        self._names = [input_hash(row.input) for row in rows]
        self._held_out = [held_out(row.input, holdout_share) for row in rows]

    def coin(self, index: int) -> float:
        """From the seed."""
        return self._coins[index]

    def name(self, index: int) -> Hashable:
        """The hash of the normalised input."""
        return self._names[index]

    def holdout(self, index: int) -> bool:
        """By that hash."""
        return self._held_out[index]

    def answer(self, index: int, version: str) -> Said:
        """What the fitted model says."""
        ((output, p_agree),) = self.models[version].answer([self.rows[index].input])
        return Said(output, p_agree)

    def score(self, output: JsonObject, index: int) -> float:
        """Against the recorded answer."""
        return self._score(output, self.rows[index].output)

    def train(self, lesson: Lesson) -> None:
        """Fit a model on the lesson's rows."""
        rows = [self._example(index, index in lesson.fresh) for index in lesson.rows]
        self.models[lesson.version] = self._fit(rows, [self._example(index, False) for index in lesson.held_out])

    def lag(self, index: int) -> int:
        """The recorded answer is there at once."""
        return 0

    def _example(self, index: int, fresh: bool) -> Example:
        row = self.rows[index]
        return Example(request=row.request, input=row.input, output=row.output, fresh=fresh)
