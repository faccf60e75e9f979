"""An actor: one thing that needs turn-taking, behind a mailbox, in three steps: set up, receive, tear down.

Callers hold an :class:`ActorRef`, which outlives every single life of the actor behind it.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Literal

import msgspec

from apprentice_actors.mailbox import Mailbox, MailboxClosed, MailboxStatistics

type ActorFactory[M] = Callable[[ActorRef[M]], Actor[M]]


class ActorStopped(MailboxClosed):
    """The actor is gone, or went before it answered; whether it acted on the message is not known."""


class ActorFailed(Exception):
    """An actor's step ended in a way that is no answer, such as a cancellation that nobody outside asked for."""


class AskTimeout(TimeoutError):
    """The actor took the message but gave no answer before the deadline."""


class Reply[R]:
    """Where one answer goes. The first of ``set`` and ``fail`` counts; later ones, or a gone asker, change nothing."""

    __slots__ = ("_debts", "_future")

    def __init__(self) -> None:
        self._future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._debts: set[Reply[Any]] | None = None

    @property
    def done(self) -> bool:
        """Whether there is an answer, or nobody who waits for one."""
        return self._future.done()

    def fail(self, error: Exception) -> bool:
        """Answer with an error that the asker gets raised; False if it came too late."""
        if self._future.done():
            return False
        self._future.set_exception(error)
        self._settle()
        return True

    def owe(self, debts: set["Reply[Any]"]) -> None:
        """Stand in ``debts`` until answered."""
        if not self._future.done():
            self._debts = debts
            debts.add(self)

    async def wait(self) -> R:
        """The answer; raises the error it was failed with. For the asker alone."""
        return await self._future

    def discard(self) -> None:
        """The asker is gone: take no answer any more, and let an error that came at the last moment go unread."""
        if not self._future.cancel() and not self._future.cancelled():
            self._future.exception()
        self._settle()

    def _settle(self) -> None:
        if self._debts is not None:
            self._debts.discard(self)
            self._debts = None

    def set(self, value: R) -> bool:  # last, for its name hides the builtin from the annotations above
        """Answer; False if it came too late."""
        if self._future.done():
            return False
        self._future.set_result(value)
        self._settle()
        return True


class Ask[M]:
    """The envelope of a message that is owed an answer; inside the mailbox only, the actor sees the message."""

    __slots__ = ("message", "reply")

    def __init__(self, message: M, reply: Reply[Any]) -> None:
        self.message = message
        self.reply = reply


class ActorRef[M]:
    """The address of an actor: its name and mailbox, the same across restarts."""

    __slots__ = ("mailbox", "name")

    def __init__(self, name: str, capacity: int = 1024) -> None:
        self.name = name
        self.mailbox: Mailbox[M | Ask[M]] = Mailbox(capacity, name)

    def tell(self, message: M) -> bool:
        """Leave a message; False when the mailbox is full or closed."""
        return self.mailbox.tell(message)

    async def put(self, message: M, timeout: float) -> None:
        """Leave a message, waiting for room. Raises ``MailboxFull`` or ``MailboxClosed``, as :meth:`Mailbox.put`."""
        await self.mailbox.put(message, timeout)

    async def ask[R](self, make_message: Callable[[Reply[R]], M], timeout: float) -> R:
        """Send what ``make_message`` makes around a reply and wait for the answer, ``timeout`` seconds in all.

        Raises what the actor failed the reply with; ``MailboxFull`` if there was no room in time;
        :class:`AskTimeout` if there was no answer in time; :class:`ActorStopped` if the actor died or is isolated.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        reply: Reply[R] = Reply()
        timer: asyncio.TimerHandle | None = None
        try:
            await self.mailbox.put(Ask(make_message(reply), reply), timeout)
            timer = loop.call_at(deadline, self._expire, reply, timeout)
            return await reply.wait()
        finally:
            if timer is not None:
                timer.cancel()
            reply.discard()

    def _expire(self, reply: Reply[Any], timeout: float) -> None:
        reply.fail(AskTimeout(f"{self.name}: no answer within {timeout:g} s; it may still act on the message"))

    def close(self, error: Callable[[], ActorStopped] | None = None, *, abandon: bool = False) -> None:
        """Take nothing more. With ``abandon``, what is inside is dropped and its asks are answered with the error.

        Closing again without an ``error`` keeps the first one.
        """
        if error is None and not self.mailbox.closed:
            error = self._stopped
        for entry in self.mailbox.close(error, abandon=abandon):
            if isinstance(entry, Ask):
                entry.reply.fail(self.mailbox.refusal())

    def statistics(self) -> MailboxStatistics:
        """The mailbox's."""
        return self.mailbox.statistics()

    def _stopped(self) -> ActorStopped:
        return ActorStopped(f"{self.name}: stopped; it takes and answers nothing any more")


class StopReason(msgspec.Struct, frozen=True):
    """Why a life ended: the mailbox was closed, the actor had finished, it was cancelled, or a step failed."""

    kind: Literal["closed", "finished", "cancelled", "failed"]
    error: BaseException | None = None


class Actor[M]:
    """One life behind a reference. Subclasses give ``receive`` and, where needed, ``started`` and ``stopped``.

    ``receive`` gets everything that was ready, up to ``batch_max`` messages, oldest first. An exception out of any
    step ends the life: asks that it had taken are failed, messages that it had not taken stay for the next life.
    """

    batch_max: int = 256

    def __init__(self, ref: ActorRef[M]) -> None:
        self.ref = ref
        self._debts: set[Reply[Any]] = set()
        self._finished = False
        self._effects: asyncio.TaskGroup | None = None

    async def started(self) -> None:
        """Set up; the first message comes after it."""

    async def receive(self, batch: list[M]) -> None:
        """Handle one to ``batch_max`` messages."""
        raise TypeError(f"{type(self).__name__} got {len(batch)} messages and has no receive(); write one")

    async def stopped(self, reason: StopReason) -> None:
        """Tear down. Always called, also after a failed ``started``; no effect runs any more."""

    def tell(self, message: M) -> bool:
        """As :meth:`ActorRef.tell`."""
        return self.ref.tell(message)

    async def ask[R](self, make_message: Callable[[Reply[R]], M], timeout: float) -> R:
        """As :meth:`ActorRef.ask`."""
        return await self.ref.ask(make_message, timeout)

    def finish(self) -> None:
        """End this life after the current step; whether another follows is the supervisor's policy."""
        self._finished = True

    def spawn(self, effect: Coroutine[Any, Any, M | None]) -> "asyncio.Task[M | None]":
        """Run an effect beside the loop; the message it returns comes back to ``receive``, also after a close.

        An exception out of the effect fails the actor: expected failures are returned as messages. Effects end with
        the life at the latest. Only from within the steps.
        """
        if self._effects is None:
            effect.close()
            raise RuntimeError(f"{self.ref.name}: not running; spawn effects from started() or receive()")
        task = self._effects.create_task(effect)
        self.ref.mailbox.expect()
        task.add_done_callback(self._bring_back)
        return task

    def _bring_back(self, task: "asyncio.Task[M | None]") -> None:
        failed = task.cancelled() or task.exception() is not None
        self.ref.mailbox.fulfil(None if failed else task.result())

    async def run(self, *, keep_mailbox: bool = False) -> None:
        """Live: ``started``, ``receive`` until closed or finished, ``stopped``. Raises what a step raised.

        All asks are answered in the end: those taken, and, unless ``keep_mailbox`` (a successor will read it),
        those still in the mailbox.
        """
        reason = StopReason("cancelled")
        try:
            reason = await self._live()
        finally:
            try:
                await self.stopped(reason)
            except Exception as error:
                if reason.error is None:
                    raise
                reason.error.add_note(f"then stopped() failed too: {error!r}")
            finally:
                self._answer_debts(reason)
                if not keep_mailbox:
                    self.ref.close(abandon=True)
        if reason.error is not None:
            raise reason.error

    async def _live(self) -> StopReason:
        """Set up and loop. Every failure is returned; only a cancellation from outside is raised."""
        try:
            async with asyncio.TaskGroup() as self._effects:
                await self.started()
                while not self._finished:
                    batch = await self._next()
                    if batch is None:
                        return StopReason("closed")
                    await self.receive(batch)
                return StopReason("finished")
        except BaseExceptionGroup as group:  # the task group wraps whatever a step or an effect raised
            return StopReason("failed", group.exceptions[0])
        except asyncio.CancelledError as error:
            if _cancelled_from_outside():
                raise
            failure = ActorFailed(f"{self.ref.name}: a step awaited something that was cancelled; guard that await")
            failure.__cause__ = error
            return StopReason("failed", failure)
        finally:
            self._effects = None

    async def _next(self) -> list[M] | None:
        try:
            entries = await self.ref.mailbox.take(self.batch_max)
        except MailboxClosed:
            return None
        return [self._opened(entry) if isinstance(entry, Ask) else entry for entry in entries]

    def _opened(self, ask: Ask[M]) -> M:
        ask.reply.owe(self._debts)
        return ask.message

    def _answer_debts(self, reason: StopReason) -> None:
        why = f"{reason.kind}: {reason.error!r}" if reason.error is not None else reason.kind
        for reply in tuple(self._debts):
            reply.fail(ActorStopped(f"{self.ref.name}: ended before it answered ({why}); it may have acted"))


def _cancelled_from_outside() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
