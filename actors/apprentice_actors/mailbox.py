"""A bounded queue with one reader on one event loop: what is full pushes back, what is closed says so.

Nothing here creates a task or a timer per message; only a writer that has to wait costs a future.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable

import msgspec


class MailboxFull(Exception):
    """No room came free before the deadline; the reader is too slow or the writers too many."""


class MailboxClosed(Exception):
    """The mailbox takes nothing any more, or has nothing left to give."""


class MailboxStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """A mailbox at one moment; counters run from its creation."""

    depth: int
    capacity: int
    waiting: int
    """Writers that wait for room."""
    handled: int
    """Messages the reader has taken."""
    refused: int
    """Messages turned away: full, out of time, or closed."""


class Mailbox[M]:
    """First in, first out, at most ``capacity`` messages from outside.

    Beyond the capacity come only the outcomes that the owner announced with :meth:`expect`; they are bounded by the
    owner's own limit on effects in flight, and refusing them would lose what is already paid for.
    Must be used from one event loop, by one reader at a time.
    """

    __slots__ = (
        "_abandoned",
        "_arrival",
        "_capacity",
        "_closed",
        "_expected",
        "_handled",
        "_queue",
        "_refused",
        "_waiting",
        "name",
    )

    def __init__(self, capacity: int, name: str = "mailbox") -> None:
        """Raises ``ValueError`` for a capacity under 1."""
        if capacity < 1:
            raise ValueError(f"{name}: the capacity is {capacity}; give a mailbox room for at least 1 message")
        self.name = name
        self._capacity = capacity
        self._queue: deque[M] = deque()
        self._waiting: OrderedDict[asyncio.Future[None], M] = OrderedDict()  # not empty only while the queue is full
        self._arrival: asyncio.Future[None] | None = None
        self._closed: Callable[[], MailboxClosed] | None = None
        self._abandoned = False
        self._expected = 0
        self._handled = 0
        self._refused = 0

    @property
    def closed(self) -> bool:
        """Whether further messages from outside are refused."""
        return self._closed is not None

    def statistics(self) -> MailboxStatistics:
        """What an operator wants to see."""
        return MailboxStatistics(
            depth=len(self._queue),
            capacity=self._capacity,
            waiting=len(self._waiting),
            handled=self._handled,
            refused=self._refused,
        )

    # ------------------------------------------------------------ writers

    def tell(self, message: M) -> bool:
        """Leave a message without waiting; False when full or closed."""
        if self._closed is not None or len(self._queue) >= self._capacity:
            self._refused += 1
            return False
        self._queue.append(message)
        if self._arrival is not None:
            self._wake()
        return True

    async def put(self, message: M, timeout: float) -> None:
        """Leave a message, waiting up to ``timeout`` seconds for room; waiting writers are served in their order.

        Raises :class:`MailboxFull` at the deadline and :class:`MailboxClosed` (or the subclass given to
        :meth:`close`) when closed before or meanwhile. A cancelled put may still have delivered.
        """
        if self._closed is None and len(self._queue) < self._capacity:
            self.tell(message)
            return
        if self._closed is not None:
            self._refused += 1
            raise self._closed()
        loop = asyncio.get_running_loop()
        room: asyncio.Future[None] = loop.create_future()
        self._waiting[room] = message
        timer = loop.call_later(timeout, self._expire, room, timeout)
        try:
            await room
        finally:
            timer.cancel()
            self._waiting.pop(room, None)

    def _expire(self, room: asyncio.Future[None], timeout: float) -> None:
        if self._waiting.pop(room, None) is None or room.done():
            return
        self._refused += 1
        room.set_exception(
            MailboxFull(
                f"{self.name}: still full with {self._capacity} messages after {timeout:g} s; "
                "send less at once, wait longer, or raise its capacity"
            )
        )

    # ------------------------------------------------------------ the owner's outcomes

    def expect(self) -> None:
        """Announce one outcome: the reader is not told that all is over before it has arrived."""
        self._expected += 1

    def fulfil(self, message: M | None) -> None:
        """Deliver an announced outcome past bound and close; None says that nothing will come."""
        assert self._expected > 0, f"{self.name}: an outcome that nobody announced; call expect() first"
        self._expected -= 1
        if message is not None and not self._abandoned:
            self._queue.append(message)
        self._wake()

    # ------------------------------------------------------------ the reader

    async def get(self) -> M:
        """Take the next message. Raises :class:`MailboxClosed` when closed and nothing is left or expected."""
        return (await self.take(1))[0]

    async def take(self, limit: int) -> list[M]:
        """Wait for one message, then take up to ``limit`` of those that are there. Raises as :meth:`get`.

        Cancelling loses nothing: messages leave the queue only with the return.
        """
        while not self._queue:
            if self._closed is not None and self._expected == 0:
                raise self._closed()
            if self._arrival is not None:
                raise RuntimeError(f"{self.name}: a second reader; a mailbox has one reader at a time")
            self._arrival = asyncio.get_running_loop().create_future()
            try:
                await self._arrival
            finally:
                self._arrival = None
        return self.drain(limit)

    def drain(self, limit: int) -> list[M]:
        """Take up to ``limit`` messages that are there now, possibly none."""
        queue = self._queue
        if limit >= len(queue):
            batch = list(queue)
            queue.clear()
        else:
            batch = [queue.popleft() for _ in range(limit)]
        self._handled += len(batch)
        if self._waiting:
            self._let_in()
        return batch

    # ------------------------------------------------------------ the end

    def close(self, error: Callable[[], MailboxClosed] | None = None, *, abandon: bool = False) -> list[M]:
        """Refuse further messages; ``error`` makes the exception that refused writers get.

        What is already inside is still handled, unless ``abandon``: then it is taken out and returned, for the caller
        to answer. Writers that wait for room are refused. Closing again may sharpen the error and abandon.
        """
        if self._closed is None or error is not None:
            self._closed = error or self._gone
        while self._waiting:
            room, _ = self._waiting.popitem(last=False)
            if not room.done():
                self._refused += 1
                room.set_exception(self._closed())
        left: list[M] = []
        if abandon:
            self._abandoned = True
            left = list(self._queue)
            self._queue.clear()
        self._wake()
        return left

    def refusal(self) -> MailboxClosed:
        """A fresh exception as refused writers get it. Only once closed."""
        assert self._closed is not None, f"{self.name}: not closed, so nothing is refused"
        return self._closed()

    def _gone(self) -> MailboxClosed:
        return MailboxClosed(f"{self.name}: closed; what it belongs to has stopped, look up its successor")

    def _wake(self) -> None:
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)

    def _let_in(self) -> None:
        while self._waiting and len(self._queue) < self._capacity:
            room, message = self._waiting.popitem(last=False)
            if not room.done():
                self._queue.append(message)
                room.set_result(None)
