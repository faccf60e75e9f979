"""Supervision as data: which actors come back after a failure, how often, how fast, and who hears of the others."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Any, Literal, Self

import msgspec

from apprentice_actors.actor import ActorFactory, ActorFailed, ActorRef, ActorStopped
from apprentice_actors.mailbox import MailboxStatistics
from apprentice_actors.ports import Clock

logger = logging.getLogger(__name__)

type ChildState = Literal["running", "restarting", "ended", "isolated"]


class ActorIsolated(ActorStopped):
    """The actor failed more often than its policy tolerates and was taken out of service."""


class RestartPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """What follows when a life ends otherwise than by closing the mailbox.

    ``permanent`` comes back after a failure and after :meth:`Actor.finish`, ``transient`` after a failure only,
    ``temporary`` never. More than ``max_restarts`` within ``within_s`` seconds isolates the actor. The n-th restart
    within that time waits ``backoff_initial_s * backoff_factor ** (n - 1)`` seconds, at most ``backoff_max_s``.
    """

    kind: Literal["permanent", "transient", "temporary"] = "permanent"
    max_restarts: int = 2
    within_s: float = 5.0
    backoff_initial_s: float = 0.1
    backoff_max_s: float = 5.0
    backoff_factor: float = 2.0
    shutdown_s: float = 10.0
    """How long a closed actor may take to handle what is inside before it is cancelled."""

    def __post_init__(self) -> None:
        """Raises ``ValueError`` for a policy that cannot be meant."""
        if self.max_restarts < 0 or min(self.within_s, self.shutdown_s) <= 0:
            raise ValueError(f"{self}: max_restarts must be 0 or more, within_s and shutdown_s above 0")
        if not 0 <= self.backoff_initial_s <= self.backoff_max_s or self.backoff_factor < 1:
            raise ValueError(f"{self}: needs 0 <= backoff_initial_s <= backoff_max_s and backoff_factor >= 1")
        pauses_s = sum(self.pause_s(restart) for restart in range(1, self.max_restarts + 1))
        if pauses_s >= self.within_s:
            raise ValueError(
                f"{self}: {self.max_restarts} restarts alone pause {pauses_s:g} s, so an actor that always fails would "
                "never be isolated; raise within_s or lower the back-off"
            )

    def pause_s(self, restart: int) -> float:
        """Seconds to wait before the ``restart``-th restart (from 1) within the tolerance time."""
        pause_s = self.backoff_initial_s
        for _ in range(restart - 1):
            pause_s = min(pause_s * self.backoff_factor, self.backoff_max_s)
            if pause_s == self.backoff_max_s:
                break
        return pause_s


DEFAULT_POLICY = RestartPolicy()


class ChildStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """One supervised actor at one moment."""

    name: str
    state: ChildState
    restarts: int
    last_error: str | None
    mailbox: MailboxStatistics


class _Child[M]:
    """A supervised place: the reference stays, the actors behind it come and go."""

    def __init__(self, ref: ActorRef[M], factory: ActorFactory[M], policy: RestartPolicy) -> None:
        self.ref = ref
        self.factory = factory
        self.policy = policy
        self.state: ChildState = "running"
        self.restarts = 0
        self.recent: deque[float] = deque()  # monotonic times of the restarts within the tolerance time
        self.last_error: Exception | None = None
        self.task: asyncio.Task[None] | None = None

    async def live(self) -> Exception | None:
        """One life; the error it failed with, or None. Raises only cancellation from outside."""
        try:
            await self.factory(self.ref).run(keep_mailbox=True)
        except Exception as error:
            self.last_error = error
            return error
        return None

    def pause_s(self, now: float) -> float | None:
        """Count a restart at monotonic time ``now``: seconds to wait before it, or None if it is one too many."""
        while self.recent and now - self.recent[0] > self.policy.within_s:
            self.recent.popleft()
        if len(self.recent) >= self.policy.max_restarts:
            return None
        self.recent.append(now)
        self.restarts += 1
        return self.policy.pause_s(len(self.recent))

    def statistics(self) -> ChildStatistics:
        return ChildStatistics(
            name=self.ref.name,
            state=self.state,
            restarts=self.restarts,
            last_error=repr(self.last_error) if self.last_error is not None else None,
            mailbox=self.ref.statistics(),
        )


class Supervisor:
    """A scope in which actors live. Leaving it stops them in reverse order of their start; none outlives it.

    ::

        async with Supervisor(clock, on_isolated=alert) as supervisor:
            purse = supervisor.start("treasury", Treasury, policy=RestartPolicy(shutdown_s=2.0))

    ``on_isolated(name, error)`` hears of every actor that failed and does not come back; the siblings do not notice.
    What it raises itself comes out of :meth:`shutdown`.
    """

    def __init__(self, clock: Clock, *, on_isolated: Callable[[str, Exception], None] | None = None) -> None:
        self._clock = clock
        self._on_isolated = on_isolated
        self._children: dict[str, _Child[Any]] = {}
        self._open = False

    async def __aenter__(self) -> Self:
        self._open = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.shutdown()

    def start[M](
        self,
        name: str,
        factory: ActorFactory[M],
        *,
        policy: RestartPolicy = DEFAULT_POLICY,
        capacity: int = 1024,
    ) -> ActorRef[M]:
        """Start an actor and return its reference at once; messages wait until its ``started`` is through.

        ``factory`` makes a fresh actor for every life. A name can be used again once its actor has ended.
        Raises ``RuntimeError`` outside the scope and ``ValueError`` for a name in use.
        """
        if not self._open:
            raise RuntimeError(f"{name}: the supervisor is not open; start actors inside its 'async with' block")
        before = self._children.get(name)
        if before is not None and before.state in ("running", "restarting"):
            raise ValueError(f"{name}: an actor of this name is running; stop it first or choose another name")
        self._children.pop(name, None)  # a successor takes a new place in the order of shutdown
        ref: ActorRef[M] = ActorRef(name, capacity)
        child = _Child(ref, factory, policy)
        child.task = asyncio.get_running_loop().create_task(self._keep(child), name=f"actor {name}")
        self._children[name] = child
        return ref

    def statistics(self) -> dict[str, ChildStatistics]:
        """All actors that were started and not replaced or stopped by name, in the order of their start."""
        return {name: child.statistics() for name, child in self._children.items()}

    async def stop(self, name: str) -> None:
        """Stop one actor in order: handle what is inside within ``shutdown_s``, then be cancelled.

        Raises ``KeyError`` for an unknown name. What its tear-down raised is logged and raised.
        """
        child = self._children[name]
        await self._stop(child)
        if self._children.get(name) is child:
            del self._children[name]

    async def shutdown(self) -> None:
        """Stop all actors, last started first, and refuse new ones. Raises an ``ExceptionGroup`` of what went wrong."""
        self._open = False
        errors: list[Exception] = []
        try:
            for child in reversed(tuple(self._children.values())):
                try:
                    await self._stop(child)
                except Exception as error:
                    errors.append(error)
        except asyncio.CancelledError:
            await self._cancel_all()
            raise
        if errors:
            raise ExceptionGroup("actors that could not be stopped in order", errors)

    # ------------------------------------------------------------ one child

    async def _keep(self, child: _Child[Any]) -> None:
        """Life after life, until it is over. Whatever happens, nobody is left waiting at the mailbox."""
        refusal: Callable[[], ActorStopped] | None = None
        try:
            error = await self._lives(child)
            child.state = "ended" if error is None else "isolated"
            if error is not None:
                refusal = partial(ActorIsolated, _isolation(child, error))
        finally:
            if child.state != "isolated":
                child.state = "ended"
            child.ref.close(refusal, abandon=True)
        if error is not None:
            self._report(child.ref.name, error)

    async def _lives(self, child: _Child[Any]) -> Exception | None:
        """The failure that ends it all, or None for an orderly end."""
        while True:
            error = await child.live()
            name, kind = child.ref.name, child.policy.kind
            if child.ref.mailbox.closed:
                if error is not None:
                    logger.error("%s failed while it was being stopped", name, exc_info=error)
                return None
            if kind == "temporary" or (error is None and kind == "transient"):
                return error
            pause_s = child.pause_s(self._clock.monotonic())
            if pause_s is None:
                return error or ActorFailed(f"{name}: finished too often; a permanent actor should not finish")
            logger.warning("%s is restarted in %g s (restart %d)", name, pause_s, child.restarts, exc_info=error)
            child.state = "restarting"
            await self._clock.sleep(pause_s)
            child.state = "running"

    def _report(self, name: str, error: Exception) -> None:
        logger.error("%s is isolated", name, exc_info=error)
        if self._on_isolated is not None:
            self._on_isolated(name, error)

    async def _stop(self, child: _Child[Any]) -> None:
        assert child.task is not None
        resting = child.state == "restarting"
        child.ref.close()
        if not resting:  # one that waits for its restart has nothing to finish
            await asyncio.wait({child.task}, timeout=child.policy.shutdown_s)
        while not child.task.done():  # again after a pause, for a tear-down that hangs
            child.task.cancel()
            await asyncio.wait({child.task}, timeout=child.policy.shutdown_s)
        if not child.task.cancelled() and (error := child.task.exception()) is not None:
            raise error

    async def _cancel_all(self) -> None:
        tasks = [child.task for child in self._children.values() if child.task is not None]
        for child in self._children.values():
            child.ref.close()  # an actor that answers its cancellation with a failure is not restarted
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


def _isolation(child: _Child[Any], error: Exception) -> str:
    return (
        f"{child.ref.name}: isolated after {child.restarts} restarts, last failure {error!r}; "
        "mend the cause, then start it again"
    )
