"""Simulated tasks whose truth is known: how often the student agrees, request by request, whoever looks.

A task has a *level*: the probability that the student's answer to a request agrees with the teacher's. It moves along
a course (steady, falling, oscillating …) and may depend on the version, and on ``p_agree`` by a slope: answers with a
high one agree more often. ``p_agree`` is uniform between :data:`LOWEST` and 1, so the true risk of every gate step is
known in closed form: :meth:`TaskWorld.risk`.
"""

import math
import random
from collections.abc import Callable, Sequence

import msgspec

from apprentice_actors.policy.gate import DEFAULT_GATES
from apprentice_actors.settings import TaskSettings
from benchmarks.policy_world import Lesson, Said

AGREEMENT = 0.9
"""The guarantee of every task."""
ALPHA = 0.05
FALSE_ALARM_EVERY = 1000
EPSILON = 1.0 - AGREEMENT
NEVER = 10**9
CLASSES = 5
LOWEST = 0.3
"""The lowest ``p_agree``; they are uniform between it and 1."""
CHANGE_AT = 2_500
"""The request at which a level changes: students at 0.97 serve everything by then, nearly all at a low audit rate."""


class Course(msgspec.Struct, frozen=True, kw_only=True):
    """How one simulated task goes."""

    family: str
    levels: Sequence[float]
    """Per request the mean agreement of a version of skill 0."""
    slope: float = 0.0
    """How much more often an answer agrees per unit of ``p_agree``."""
    middle: float = 0.65
    """The ``p_agree`` at which an answer agrees exactly as often as the level says."""
    change: int | None = None
    """The first request at which what is served may be under the guarantee."""
    lags: Sequence[int] = ()
    """Per request how many others come in before the teacher has answered; none without."""
    late_errors: int = 1
    """How many times later the teacher's answer comes where the student is wrong."""
    majority: float | None = None
    """Share of the commonest class, which the student always answers; None: classes are even."""
    batch: int = NEVER
    """New examples per training; :data:`NEVER` keeps the first version."""
    skills: tuple[float, ...] = (0.0,)
    """What each version adds to the level, in the order of training, again from the front after the last."""


class TaskWorld:
    """A course with its dice thrown. Implements :class:`benchmarks.policy_world.World`."""

    def __init__(self, course: Course, seed: int) -> None:
        self.course = course
        chance = random.Random(f"{course.family}/{seed}/dice")
        count = len(course.levels)
        self.coins = [chance.random() for _ in range(count)]
        self.confidences = [chance.uniform(LOWEST, 1.0) for _ in range(count)]
        self._luck = [chance.random() for _ in range(count)]
        share = course.majority
        even = [chance.random() for _ in range(count)]
        if share is None:
            self._truth = [int(one * CLASSES) for one in even]
        else:
            self._truth = [0 if one < share else 1 + int((one - share) / (1.0 - share) * (CLASSES - 1)) for one in even]

    def settings(self) -> TaskSettings:
        """What the task is promised: the defaults, with the course's training."""
        return TaskSettings(
            task="simulated",
            guarantee=AGREEMENT,
            alpha=ALPHA,
            gates=DEFAULT_GATES,
            false_alarm_every=FALSE_ALARM_EVERY,
            classes=CLASSES,
            batch=self.course.batch,
        )

    def skill(self, version: str) -> float:
        """What a version adds to the level."""
        return self.course.skills[(int(version.rpartition("@v")[2]) - 1) % len(self.course.skills)]

    def risk(self, index: int, gate: float, version: str) -> float:
        """True mean disagreement, at the time of a request, of all answers whose ``p_agree`` clears ``gate``."""
        course = self.course
        tilt = course.slope * ((max(gate, LOWEST) + 1.0) / 2.0 - course.middle)
        return 1.0 - (course.levels[index] + self.skill(version) + tilt)

    def agrees(self, index: int, version: str) -> bool:
        """Whether a version's answer to a request is the teacher's."""
        course = self.course
        if course.majority is not None:
            return self._truth[index] == 0
        tilt = course.slope * (self.confidences[index] - course.middle)
        return self._luck[index] < course.levels[index] + self.skill(version) + tilt

    # ------------------------------------------------------------ the world's side

    def coin(self, index: int) -> float:
        """Thrown beforehand."""
        return self.coins[index]

    def name(self, index: int) -> int:
        """No input comes twice."""
        return index

    def holdout(self, index: int) -> bool:
        """Every fifth."""
        return index % 5 == 0

    def answer(self, index: int, version: str) -> Said:
        """The teacher's class, or the next one; the commonest class throughout where there is one."""
        if self.course.majority is not None:
            return Said(0, self.confidences[index])
        right = self._truth[index]
        return Said(right if self.agrees(index, version) else (right + 1) % CLASSES, self.confidences[index])

    def score(self, output: int, index: int) -> float:
        """1 for the same class."""
        return 1.0 if output == self._truth[index] else 0.0

    def train(self, lesson: Lesson) -> None:
        """A version's skill is known beforehand."""

    def lag(self, index: int) -> int:
        """As the course says, later where the first version is wrong."""
        lags = self.course.lags
        if not lags:
            return 0
        return lags[index] * (1 if self.agrees(index, "@v1") else self.course.late_errors)


# ---------------------------------------------------------------- families


def _tilt(chance: random.Random, slope: float) -> tuple[float, float]:
    """Half of the tasks know nothing of when they are right; for the others one step lies exactly on the level."""
    step = chance.choice((None, None, 0.5, 0.7))
    return (0.0, 0.65) if step is None else (slope, (step + 1.0) / 2.0)


def _steady(family: str, low: float, high: float, requests: int) -> Callable[[random.Random], Course]:
    def make(chance: random.Random) -> Course:
        slope, middle = _tilt(chance, 0.1)
        return Course(family=family, levels=[chance.uniform(low, high)] * requests, slope=slope, middle=middle)

    return make


def _worst(chance: random.Random) -> Course:
    return Course(family=WORST, levels=[AGREEMENT] * 1_000)


def _settling(chance: random.Random) -> Course:
    levels = [0.97] * CHANGE_AT + [AGREEMENT] * 3_000
    return Course(family="settles at it", levels=levels)


def _dropping(chance: random.Random) -> Course:
    slope, middle = _tilt(chance, 0.1)
    levels = [0.97] * CHANGE_AT + [AGREEMENT - chance.choice((0.05, 0.1, 0.2, 0.4))] * 8_000
    return Course(family="sudden drop", levels=levels, slope=slope, middle=middle, change=CHANGE_AT)


def _decaying(chance: random.Random) -> Course:
    fall, length = 0.17, 10_000
    levels = [0.97] * 1_000 + [0.97 - fall * step / length for step in range(length)] + [0.8] * 2_000
    below = next(index for index, level in enumerate(levels) if level < AGREEMENT)
    return Course(family="slow decay", levels=levels, change=below)


def _oscillating(chance: random.Random) -> Course:
    period, first = chance.choice((40, 100, 250)), chance.randrange(2)
    levels = [AGREEMENT + (0.09 if (index // period + first) % 2 else -0.09) for index in range(3_000)]
    return Course(family="oscillating", levels=levels)


def _imbalanced(chance: random.Random) -> Course:
    share = chance.choice((AGREEMENT, 0.96))
    return Course(family="imbalanced", levels=[share] * 3_000, majority=share)


def _bursty(chance: random.Random) -> Course:
    level, spread = chance.choice(((AGREEMENT, 0.08), (0.95, 0.04)))
    levels: list[float] = []
    lags: list[int] = []
    while len(levels) < 3_000:
        size = chance.randint(20, 80)
        levels += [level + chance.choice((spread, -spread))] * size
        lags += [size - place for place in range(size)]
    return Course(family="bursty", levels=levels, lags=lags)


def _delayed(chance: random.Random) -> Course:
    at, drops = chance.choice(((AGREEMENT, False), (0.97, True)))
    levels = [at] * CHANGE_AT + [0.75 if drops else at] * (4_000 if drops else 0)
    lags = [chance.randint(0, 200) for _ in levels]
    change = CHANGE_AT if drops else None
    return Course(family="delayed teacher", levels=levels, lags=lags, late_errors=3, change=change)


def _changing(chance: random.Random) -> Course:
    skills = tuple(chance.uniform(-0.1, 0.085) for _ in range(40))
    return Course(family="changing student", levels=[AGREEMENT] * 4_000, batch=150, skills=skills)


WORST = "all steps at it"
FAMILIES: dict[str, tuple[int, Callable[[random.Random], Course]]] = {
    "steady above": (80, _steady("steady above", 0.94, 0.97, 4_000)),
    "steady at it": (120, _steady("steady at it", AGREEMENT, AGREEMENT, 3_000)),
    "steady below": (80, _steady("steady below", 0.84, 0.895, 2_000)),
    "settles at it": (80, _settling),
    "sudden drop": (180, _dropping),
    "slow decay": (60, _decaying),
    "oscillating": (80, _oscillating),
    "imbalanced": (80, _imbalanced),
    "bursty": (80, _bursty),
    "delayed teacher": (80, _delayed),
    "changing student": (80, _changing),
    WORST: (1_000, _worst),
}
"""How many tasks of each family a full run plays, and how one is made from chance: 1,000 of all kinds, and another
1,000 of the kind that the certificate has the most chances to be wrong about."""


def make_task(family: str, number: int) -> TaskWorld:
    """Task ``number`` of a family; the same for the same arguments."""
    return TaskWorld(FAMILIES[family][1](random.Random(f"{family}/{number}")), number)


def expected_audits(drop: float) -> float:
    """Audits until a drop under the guarantee raises the alarm: ``log A / KL(epsilon + drop || epsilon)``.

    The leading term of Lorden's bound (1971), for a detector that knew the drop beforehand.
    """
    risk = EPSILON + drop
    divergence = risk * math.log(risk / EPSILON)
    if risk < 1.0:
        divergence += (1.0 - risk) * math.log((1.0 - risk) / AGREEMENT)
    return math.log(FALSE_ALARM_EVERY) / divergence
