"""Waiting until nothing is in flight and everything that was decided is durable."""

import contextlib
from collections.abc import Callable, Mapping

from apprentice_actors.actor import ActorRef, AskTimeout
from apprentice_actors.mailbox import MailboxClosed, MailboxFull
from apprentice_actors.task import Rest, TaskMessage, TaskSupervisor
from apprentice_actors.treasury import CatchUp, TreasuryMessage

PATIENCE_S = 3600.0
"""After this long the question is put again: a question has to have an end, waiting has none."""


async def settled(
    refs: Mapping[str, ActorRef[TaskMessage]],
    supervisor: Callable[[str], TaskSupervisor],
    treasury: ActorRef[TreasuryMessage],
) -> None:
    """Wait until all tasks that are not closed or isolated are at rest at one moment; ``supervisor`` by task name.

    What a task decides may move money, and the treasury may have something to say to the tasks about that, so they are
    asked before it and after it.
    """
    while True:
        await _all_at_rest(refs)
        with _asked_again():
            if not treasury.mailbox.closed:
                await treasury.ask(lambda reply: CatchUp(reply=reply), PATIENCE_S)
        await _all_at_rest(refs)
        if all(ref.mailbox.closed or supervisor(name).at_rest for name, ref in refs.items()):
            return


async def _all_at_rest(refs: Mapping[str, ActorRef[TaskMessage]]) -> None:
    for ref in refs.values():
        with _asked_again():
            if not ref.mailbox.closed:
                await ref.ask(lambda reply: Rest(reply=reply), PATIENCE_S)


def _asked_again() -> contextlib.AbstractContextManager[None]:
    """An actor that ends before it answers has a successor, which is asked in the next round, or is isolated."""
    return contextlib.suppress(MailboxClosed, MailboxFull, AskTimeout)
