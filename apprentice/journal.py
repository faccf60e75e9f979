"""The runtime's own lines in the log, and the purse as the log has it."""

import contextlib

from apprentice_actors.ports import Clock
from apprentice_events import errors as log_errors
from apprentice_events import vocabulary as v
from apprentice_events.log import Entry, EventLog
from apprentice_events.spend import MONEY_TAGS, SpendState

STREAM = "runtime"


async def note(log: EventLog, clock: Clock, event: v.Event) -> None:
    """Write what happened to the process as a whole. Raises ``LogError``."""
    version = await log.stream_version(STREAM)
    await log.append(STREAM, version, [Entry(event)], time_ns=clock.now_ns())


async def note_quietly(log: EventLog, clock: Clock, event: v.Event) -> None:
    """The same, where a poisoned log may stay silent."""
    with contextlib.suppress(log_errors.LogError):
        await note(log, clock, event)


async def fold_spend(log: EventLog, spend: SpendState) -> None:
    """Take in all money of the past."""
    async for record in log.read(tags=MONEY_TAGS):
        spend.apply(record.stream.removeprefix("task/"), record.event(), record.time_ns)
