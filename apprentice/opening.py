"""Something that has to be opened before it can be used, and closed after."""

from collections.abc import Awaitable, Callable, Generator
from types import TracebackType
from typing import Any, Protocol


class Closeable(Protocol):
    """Something that is open."""

    async def close(self) -> None:
        """Close it."""
        ...


class Opening[T: Closeable]:
    """A runtime about to be opened: await it, or enter it, which also closes it in the end."""

    def __init__(self, open_it: Callable[[], Awaitable[T]]) -> None:
        self._open_it = open_it
        self._opened: T | None = None

    def __await__(self) -> Generator[Any, None, T]:
        return self._open_it().__await__()

    async def __aenter__(self) -> T:
        self._opened = await self._open_it()
        return self._opened

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._opened is not None:
            await self._opened.close()
