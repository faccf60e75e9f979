"""The system's own time and chance behind the ports."""

import asyncio
import secrets
import time


class SystemClock:
    """The machine's clock. Implements :class:`apprentice_actors.ports.Clock`."""

    def now_ns(self) -> int:
        """UTC, nanoseconds since the epoch, as the operating system has it; may be set back by it."""
        return time.time_ns()

    def monotonic(self) -> float:
        """Seconds since an arbitrary moment; never goes back."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Suspend for ``seconds``; 0 lets others run once."""
        await asyncio.sleep(seconds)


class SystemRandomness:
    """The operating system's entropy. Implements :class:`apprentice_actors.ports.Randomness`."""

    def __init__(self) -> None:
        self._source = secrets.SystemRandom()

    def random(self) -> float:
        """Uniform in [0, 1)."""
        return self._source.random()

    def token(self, size: int) -> bytes:
        """``size`` unpredictable bytes, fit for salts and identifiers."""
        return secrets.token_bytes(size)
