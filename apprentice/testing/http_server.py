"""A small HTTP/1.1 server for simulated providers: keep-alive, Content-Length bodies, and endings that real servers
have only on bad days. It handles a few thousand requests per second on one core, in the process of the test.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from enum import StrEnum
from http import HTTPStatus

import msgspec

HEAD_MAX_BYTES = 64 * 1024
BODY_MAX_BYTES = 32 * 1024 * 1024


class Ending(StrEnum):
    """How a response comes out of the wire."""

    complete = "complete"
    silent = "silent"  # the connection closes before the first byte
    twice = "twice"  # the whole response comes a second time, without a request
    cut = "cut"  # the connection closes in the middle of the body
    never = "never"  # nothing comes, and the connection stays open


class Request(msgspec.Struct, frozen=True):
    """A request as received; header names are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


class Response(msgspec.Struct, frozen=True, kw_only=True):
    """What to send, when, and how it ends. ``abandoned`` is called if the client goes away before it got everything."""

    status: int
    body: bytes
    headers: Mapping[str, str] = {}
    delay_s: float = 0.0
    ending: Ending = Ending.complete
    abandoned: Callable[[], None] = lambda: None


type Handler = Callable[[Request], Response]
type Sleep = Callable[[float], Awaitable[None]]


class HttpServer:
    """Serves ``handler`` on a loopback port while it is entered."""

    def __init__(self, handler: Handler, sleep: Sleep) -> None:
        self._handler = handler
        self._sleep = sleep
        self._connections: set[_Connection] = set()
        self._server: asyncio.Server | None = None
        self.port = 0

    async def start(self) -> None:
        """Listen on a free port, named by ``port`` afterwards."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._connection, "127.0.0.1", 0, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close the port and every connection."""
        assert self._server is not None, "the server was not started"
        self._server.close()
        for connection in list(self._connections):
            connection.close()
        await self._server.wait_closed()

    @property
    def open_connections(self) -> int:
        """How many clients are connected."""
        return len(self._connections)

    def _connection(self) -> "_Connection":
        return _Connection(self._handler, self._sleep, self._connections)


class _Connection(asyncio.Protocol):
    """One client. Requests of one connection are handled one after the other."""

    def __init__(self, handler: Handler, sleep: Sleep, others: "set[_Connection]") -> None:
        self._handler = handler
        self._sleep = sleep
        self._others = others
        self._buffer = bytearray()
        self._transport: asyncio.Transport
        self._pending: Response | None = None
        self._later: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._others.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._others.discard(self)
        if self._later is not None:
            self._later.cancel()
        if self._pending is not None:
            self._pending.abandoned()

    def close(self) -> None:
        """Drop the client."""
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._advance()

    def _advance(self) -> None:
        while self._pending is None and not self._transport.is_closing():
            request = self._take_request()
            if request is None:
                return
            self._answer(self._handler(request))

    def _take_request(self) -> Request | None:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > HEAD_MAX_BYTES:
                self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
            return None
        try:
            first, *lines = self._buffer[:end].decode("latin-1").split("\r\n")
            method, path, _ = first.split(" ", 2)
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            length = int(headers.get("content-length", "0"))
        except ValueError:
            self._refuse(HTTPStatus.BAD_REQUEST)
            return None
        if "transfer-encoding" in headers:
            self._refuse(HTTPStatus.LENGTH_REQUIRED)
            return None
        if not 0 <= length <= BODY_MAX_BYTES:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            return None
        if len(self._buffer) < end + 4 + length:
            return None
        body = bytes(self._buffer[end + 4 : end + 4 + length])
        del self._buffer[: end + 4 + length]
        return Request(method, path, headers, body)

    def _refuse(self, status: HTTPStatus) -> None:
        self._transport.write(_head(status, {"connection": "close"}, 0))
        self._transport.close()

    def _answer(self, response: Response) -> None:
        if response.ending is Ending.complete and response.delay_s <= 0:
            self._transport.write(_head(response.status, response.headers, len(response.body)) + response.body)
            return
        self._pending = response
        if response.ending is not Ending.never:
            self._later = asyncio.get_running_loop().create_task(self._finish(response))

    async def _finish(self, response: Response) -> None:
        if response.delay_s > 0:
            await self._sleep(response.delay_s)
        self._pending = None
        head = _head(response.status, response.headers, len(response.body))
        match response.ending:
            case Ending.silent:
                self._transport.close()
            case Ending.cut:
                self._transport.write(head + response.body[: len(response.body) // 2])
                self._transport.close()
            case Ending.twice:
                self._transport.write((head + response.body) * 2)
                self._advance()
            case _:
                self._transport.write(head + response.body)
                self._advance()


def _head(status: int, headers: Mapping[str, str], length: int) -> bytes:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "Overloaded"
    lines = [f"HTTP/1.1 {int(status)} {phrase}", f"content-length: {length}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
