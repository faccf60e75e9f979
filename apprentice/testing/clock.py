"""Virtual time: an event loop on which months pass in seconds, and the seeded clock and chance that go with it.

Time stands still while anything is ready to run and jumps to the next timer when nothing is. The same program with
the same seed therefore takes the same course, whatever the machine does meanwhile.
"""

import asyncio
import functools
import inspect
import math
import random
import selectors
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from datetime import UTC, datetime, timedelta
from typing import Any

START = datetime(2026, 1, 1, tzinfo=UTC)
"""When virtual time begins unless told otherwise."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Deadlock(RuntimeError):
    """Nothing is ready and no timer is set: the program waits for something that cannot come."""


class RealInputOutput(RuntimeError):
    """Sockets, subprocesses and threads take real time, which virtual time cannot wait for."""


class _JumpingSelector(selectors.DefaultSelector):
    """Never waits: where a real selector would block, time jumps."""

    jump: Callable[[bool], None] | None = None
    """Told, once the loop is built, whether a timer is set; None while the loop registers its own wake-up pipe."""

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """Refuse every descriptor but the loop's own."""
        if self.jump is not None:
            raise RealInputOutput(
                f"{fileobj!r}: real input and output on a virtual-time loop; use an in-memory fake "
                "(httpx.MockTransport, a simulated log), or run this on an ordinary loop"
            )
        return super().register(fileobj, events, data)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """What is ready now; if nothing is, jump."""
        ready = super().select(0)
        if not ready and self.jump is not None and (timeout is None or timeout > 0):
            self.jump(timeout is not None)
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop whose ``time()`` is virtual: seconds since ``start``, beginning at 0.

    :class:`Deadlock` comes out of ``run_until_complete`` when nothing can ever happen again;
    :class:`RealInputOutput` is raised where code opens a socket, a subprocess or a thread.
    """

    _scheduled: list[asyncio.TimerHandle]  # asyncio's heap of timers; its head is never a cancelled one in select()
    _clock_resolution: float

    def __init__(self, start: datetime = START) -> None:
        """``start`` must carry a time zone. Raises ``ValueError`` if it does not."""
        self._now = 0.0
        selector = _JumpingSelector()
        super().__init__(selector)
        self._clock_resolution = math.ulp(self._now)
        selector.jump = self._jump
        if start.tzinfo is None:
            self.close()
            raise ValueError(f"start={start.isoformat()} has no time zone; write datetime(…, tzinfo=UTC)")
        self.start_ns = (start - _EPOCH) // timedelta(microseconds=1) * 1000

    def time(self) -> float:
        """Virtual seconds since the start."""
        return self._now

    def _jump(self, timer_set: bool) -> None:
        if not timer_set:
            raise Deadlock(self._describe())
        self._now = max(self._now, self._scheduled[0].when())
        self._clock_resolution = math.ulp(self._now)  # so that asyncio fires what is due now, and nothing earlier

    def _describe(self) -> str:
        waiting = sorted(_where(task) for task in asyncio.all_tasks(self))
        listed = "\n".join(f"  - {line}" for line in waiting) or "  (no task at all)"
        return (
            f"deadlock at virtual second {self._now:g}: no callback is ready and no timer is set. "
            f"Find out who should have woken these tasks:\n{listed}"
        )

    def run_in_executor[*A, T](
        self, executor: Executor | None, func: Callable[[*A], T], *args: *A
    ) -> asyncio.Future[T]:
        """Refuse: a thread takes real time."""
        raise RealInputOutput(f"{func!r} in a thread on a virtual-time loop; call it directly, or use a fake")


def _where(task: asyncio.Task[Any]) -> str:
    frames = task.get_stack(limit=None)
    if not frames:
        return f"{task.get_name()}: not at any line"
    frame = frames[-1]
    return f"{task.get_name()}: {frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_qualname}"


class VirtualClock:
    """The clock of a :class:`VirtualTimeLoop`. Implements :class:`apprentice_actors.ports.Clock`."""

    def __init__(self, loop: VirtualTimeLoop) -> None:
        self._loop = loop

    def now_ns(self) -> int:
        """UTC, nanoseconds since the epoch; exact to a few nanoseconds within the first months."""
        return self._loop.start_ns + round(self._loop.time() * 1e9)

    def monotonic(self) -> float:
        """Virtual seconds since the start."""
        return self._loop.time()

    async def sleep(self, seconds: float) -> None:
        """Suspend for virtual ``seconds``; 0 lets others run once."""
        await asyncio.sleep(seconds)


class SeededRandomness:
    """Reproducible chance: one seed, one sequence. Implements :class:`apprentice_actors.ports.Randomness`."""

    def __init__(self, seed: int) -> None:
        self._source = random.Random(seed)

    def random(self) -> float:
        """Uniform in [0, 1)."""
        return self._source.random()

    def token(self, size: int) -> bytes:
        """``size`` bytes; predictable, so for tests alone."""
        return self._source.randbytes(size)


def run_virtual[T](program: Callable[[VirtualClock], Coroutine[Any, Any, T]], *, start: datetime = START) -> T:
    """Run ``program(clock)`` to its end in virtual time and return its result; tasks it left behind are cancelled."""
    loop = VirtualTimeLoop(start)
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(program(VirtualClock(loop)))


def virtual_time(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Make an async test run in virtual time. A parameter named ``clock`` gets the :class:`VirtualClock`.

    The other parameters stay what they are to pytest and hypothesis: fixtures, parameters, drawn values.
    """
    signature = inspect.signature(test)
    others = [parameter for name, parameter in signature.parameters.items() if name != "clock"]
    wants_clock = len(others) < len(signature.parameters)

    @functools.wraps(test)
    def in_virtual_time(*args: Any, **kwargs: Any) -> None:
        run_virtual(lambda clock: test(*args, **kwargs, **({"clock": clock} if wants_clock else {})))

    in_virtual_time.__signature__ = signature.replace(parameters=others)  # type: ignore[attr-defined]  # read by inspect
    return in_virtual_time
