"""The result of deciding: events to record, effects to start once they are durable."""

import msgspec

from apprentice_events.vocabulary import Event

from .commands import Effect


class Decision(msgspec.Struct, frozen=True):
    """Facts first, deeds after: ``effects`` start only when ``events`` are on disk."""

    events: tuple[Event, ...] = ()
    effects: tuple[Effect, ...] = ()

    @property
    def speaks(self) -> bool:
        """Whether anything follows."""
        return bool(self.events or self.effects)


NOTHING = Decision()
