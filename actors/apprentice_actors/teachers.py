"""The remote models of a runtime: their order, their weights, their health, and whether their answers may teach."""

from collections.abc import Collection, Sequence
from typing import Literal

import msgspec

from .actor import ActorRef
from .policy.breaker import Breaker
from .ports import Clock, RemoteModel
from .remote import RemoteMessage

type Distillation = Literal["allowed", "disallowed", "unknown"]


class Teacher(msgspec.Struct, kw_only=True):
    """One remote model behind its desk."""

    name: str
    """``provider/model``, unique."""
    model: RemoteModel
    desk: ActorRef[RemoteMessage]
    breaker: Breaker
    """Shared with the desk, which alone changes it."""
    weight: float = 0.0
    """Share of requests that it is asked first, relative to the others; 0: only as a fallback."""
    distillation: Distillation = "unknown"

    @property
    def teaches(self) -> bool:
        """Whether its answers may become examples."""
        return self.distillation != "disallowed"


class Teachers:
    """All of them, in fallback order; the first is the configured main one."""

    def __init__(self, teachers: Sequence[Teacher], clock: Clock) -> None:
        assert teachers, "a runtime needs a remote model"
        self.all = tuple(teachers)
        self._by_name = {teacher.name: teacher for teacher in teachers}
        self._clock = clock

    def named(self, name: str) -> Teacher:
        """The teacher of this name."""
        return self._by_name[name]

    def choose(self, draw: float, tried: Collection[str] = ()) -> Teacher | None:
        """Who is asked next: the untried whose circuit allows it, by weight for ``draw`` in [0, 1), else in order.

        A teacher that was tried comes again only if no other is configured. None: every circuit is open.
        """
        now = self._clock.monotonic()
        able = [teacher for teacher in self.all if teacher.breaker.allows(now)]
        fresh = [teacher for teacher in able if teacher.name not in tried]
        if not fresh:
            return able[0] if able and len(self.all) == 1 else None
        weighty = [teacher for teacher in fresh if teacher.weight > 0]
        if tried or not weighty:
            return fresh[0]
        mark = draw * sum(teacher.weight for teacher in weighty)
        for teacher in weighty:
            mark -= teacher.weight
            if mark < 0:
                return teacher
        return weighty[-1]

    def again(self, name: str) -> Teacher | None:
        """The teacher of this name for one more call; None while its circuit is open."""
        teacher = self._by_name[name]
        return teacher if teacher.breaker.allows(self._clock.monotonic()) else None

    def others(self, tried: Collection[str]) -> int:
        """How many untried ones could be asked now."""
        now = self._clock.monotonic()
        return sum(teacher.name not in tried and teacher.breaker.allows(now) for teacher in self.all)
