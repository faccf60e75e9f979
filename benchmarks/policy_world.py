"""The two sides of :mod:`benchmarks.policy_sim`: what a world must answer, and what is known of a play afterwards."""

from collections.abc import Hashable
from typing import Any, NamedTuple, Protocol

import msgspec

from apprentice_events import vocabulary as v
from apprentice_events.task_state import TaskState


class Said(NamedTuple):
    """A local answer: an output that only the world understands, and its calibrated probability of agreement."""

    output: Any
    p_agree: float


class Lesson(NamedTuple):
    """What a training job is given: indices of requests, each distinct input once, the newest last."""

    version: str
    parent: str | None
    rows: list[int]
    held_out: list[int]
    fresh: frozenset[int]
    """Those collected since the last training."""


class World(Protocol):
    """Everything outside the decisions. Requests are known by their index; the teacher always answers."""

    def coin(self, index: int) -> float:
        """The request's audit coin, uniform in [0, 1): below the audit rate the pair is compared."""
        ...

    def name(self, index: int) -> Hashable:
        """What the input of a request is told apart by: equal for equal inputs."""
        ...

    def holdout(self, index: int) -> bool:
        """Whether the input belongs to the held-out rows."""
        ...

    def answer(self, index: int, version: str) -> Said | None:
        """What a version says to a request; None: it fails. The same whenever it is asked."""
        ...

    def score(self, output: Any, index: int) -> float:
        """The evaluator's score, in [0, 1], of a local output against the teacher's answer to a request."""
        ...

    def train(self, lesson: Lesson) -> None:
        """Make a version. It is asked about from now on."""
        ...

    def lag(self, index: int) -> int:
        """How many later requests come in before the teacher has answered this one."""
        ...


class Told(msgspec.Struct, kw_only=True):
    """One request as it went, and the truth about it."""

    served: v.Server | None = None
    """Who answered the caller; None as long as nobody has."""
    phase: v.Phase = "cold_start"
    gate: float | None = None
    turn: int = 0
    """Its place in the order of coins; 0 where no local version was asked."""
    rate: float = 1.0
    """The audit rate in force at its coin."""
    compared: bool = False
    """Whether the pair was scored, or will be: the coin said so, or the remote was asked anyway."""
    calls: int = 0
    """Paid calls."""
    version: str | None = None
    """The version that gave the local answer."""
    p_agree: float | None = None
    score: float | None = None
    """True score of the local answer, audited or not; None where no version answered."""


class Note(NamedTuple):
    """An event that is no routine step of a request: of judgement, training, versions, alerts."""

    at: int
    """The newest request when it happened."""
    turn: int
    """The last turn that the evidence had taken in, with all before it."""
    event: v.Event


class Played(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it. ``told`` has one entry per request."""

    told: list[Told]
    notes: list[Note]
    state: TaskState

    def events[E: v.Event](self, kind: type[E]) -> list[tuple[int, E]]:
        """The notes of one kind, each with the newest request when it happened."""
        return [(note.at, note.event) for note in self.notes if isinstance(note.event, kind)]
