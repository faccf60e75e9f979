"""Which versions a server holds, where it can hold only some of those that may be asked.

Each version on the server has a seat. One that is asked and has none gets the seat of an idle version, of those the
one asked longest ago. Where all are busy, the one asked longest ago takes no further requests, and goes when its last
one is done. Requests wait for their seat and do not fail for want of one.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from apprentice_actors.ports import LocalFailure

logger = logging.getLogger(__name__)

type Move = Callable[[str], Awaitable[None]]


class Seat:
    """A version on the server."""

    def __init__(self) -> None:
        self.arrivals = 1
        """How often it was brought to the server."""
        self.leaving = False
        self.users = 0
        self.idle = asyncio.Event()
        self.idle.set()

    def enter(self) -> None:
        """One more request."""
        self.users += 1
        self.idle.clear()

    def exit(self) -> None:
        """One less."""
        self.users -= 1
        if not self.users:
            self.idle.set()


class Seats:
    """Brings versions to a server with ``places`` and takes them away: ``attach``, which may fail, and ``detach``."""

    def __init__(self, places: int, attach: Move, detach: Move) -> None:
        self._places = places
        self._attach = attach
        self._detach = detach
        self._seats: dict[str, Seat] = {}  # asked longest ago first
        self._waiting: dict[str, list[asyncio.Future[Seat]]] = {}  # first come, first served
        self._mover: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()  # versions come and go one at a time
        self._closed = False

    @property
    def held(self) -> frozenset[str]:
        """The versions on the server."""
        return frozenset(self._seats)

    @asynccontextmanager
    async def hold(self, version: str) -> AsyncIterator[Seat]:
        """A seat for one request. Raises what ``attach`` raises."""
        seat = self._seats.get(version)
        if seat is not None and not seat.leaving:
            self._seats[version] = self._seats.pop(version)
            seat.enter()
        else:
            seat = await self._queue(version)
        try:
            yield seat
        finally:
            seat.exit()

    async def leave(self, version: str) -> None:
        """Take a version away once its requests are done."""
        async with self._turn:
            if version in self._seats:
                await self._take_away(version)

    async def bring_again(self, version: str, seat: Seat, arrivals: int) -> None:
        """The server has lost a version that was there at ``arrivals``. Raises what ``attach`` raises."""
        async with self._turn:
            if seat.arrivals == arrivals:  # else another request noticed first
                await self._attach(version)
                seat.arrivals += 1

    async def restore(self) -> None:
        """The server began anew: bring all versions that it had. One that cannot be brought is tried when asked."""
        for version, seat in list(self._seats.items()):
            try:
                await self.bring_again(version, seat, seat.arrivals)
            except LocalFailure as error:
                logger.warning("%s could not be brought back to its server: %s", version, error)

    async def close(self) -> None:
        """Forget everything. Requests that wait for a seat fail, and so does every further one."""
        self._closed = True
        if self._mover is not None:
            self._mover.cancel()
            await asyncio.gather(self._mover, return_exceptions=True)
        for version in list(self._waiting):
            self._fail(version, _gone(version))
        self._seats.clear()

    async def _queue(self, version: str) -> Seat:
        if self._closed:
            raise _gone(version)
        waiter: asyncio.Future[Seat] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(version, []).append(waiter)
        if self._mover is None or self._mover.done():
            self._mover = asyncio.create_task(self._move(), name="seats of a local model server")
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                waiter.result().exit()  # it was given the seat in the very moment it gave up
            raise

    async def _move(self) -> None:
        """Serve the queue until it is empty."""
        while self._waiting:
            version = next(iter(self._waiting))
            async with self._turn:
                try:
                    await self._bring(version)
                except LocalFailure as error:
                    self._fail(version, error)
                except Exception as error:  # a defect in a backend must not leave requests waiting for ever
                    logger.exception("%s could not be brought to its server", version)
                    self._fail(version, LocalFailure(f"{version} could not be brought to its server: {error!r}"))

    async def _bring(self, version: str) -> None:
        if version not in self._seats:
            if len(self._seats) >= self._places:
                idle = (name for name, seat in self._seats.items() if not seat.users)
                await self._take_away(next(idle, None) or next(iter(self._seats)))
            await self._attach(version)
            self._seats[version] = Seat()
        for waiter in self._waiting.pop(version):
            if not waiter.done():
                self._seats[version].enter()
                waiter.set_result(self._seats[version])

    async def _take_away(self, version: str) -> None:
        seat = self._seats[version]
        seat.leaving = True
        try:
            await seat.idle.wait()
            await self._detach(version)
        except LocalFailure as error:
            logger.warning("%s could not be taken from its server: %s", version, error)
        except BaseException:
            seat.leaving = False
            raise
        del self._seats[version]

    def _fail(self, version: str, error: LocalFailure) -> None:
        for waiter in self._waiting.pop(version, ()):
            if not waiter.done():
                waiter.set_exception(error)


def _gone(version: str) -> LocalFailure:
    return LocalFailure(f"{version} cannot be asked: the connection to its server was closed")
