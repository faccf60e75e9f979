"""Talking to a model server: connections, and errors in plain words.

A server that cannot be reached or does not answer in time is a :class:`LocalFailure` at once: the request then goes to
the remote model, and trying again here would only make somebody wait. A server that says no is :class:`Refused`,
because some refusals mean something (a version that is loaded already, one that is gone).
"""

import json
import logging
from typing import Any
from urllib.parse import urlsplit

import httpx
import msgspec

from apprentice.remote.clients import ClientPool
from apprentice.remote.secrets import Secret, detached, redact
from apprentice_actors.ports import JsonObject, LocalFailure

logger = logging.getLogger(__name__)

CONNECT_S = 5.0
ANSWER_S = 300.0
"""The longest that any answer is waited for; the requests that need it have deadlines of their own."""
_SAID_CHARS = 300
"""How much of a server's error text is passed on."""
_CUT_OFF = (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError)
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Refused(Exception):
    """The server answered with an error. ``said`` is its text, shortened, without secrets."""

    def __init__(self, status: int, said: str) -> None:
        super().__init__(f"status {status}: {said}")
        self.status = status
        self.said = said


class Endpoint:
    """One server. ``name`` is what messages call it, ``cure`` what to do when it cannot be reached.

    ``client`` stays the caller's to close if given.
    """

    def __init__(
        self, name: str, url: str, *, cure: str, key: Secret | None = None, client: httpx.AsyncClient | None = None
    ) -> None:
        bare, login = detached(url)
        self.url = bare.rstrip("/")
        self._name = name
        self._cure = cure
        self._closed = False
        self._headers = {"authorization": f"Bearer {key.reveal()}"} if key is not None else {}
        self._auth = httpx.BasicAuth(*login) if login is not None else httpx.USE_CLIENT_DEFAULT
        parts = urlsplit(bare)
        # A proxy for the outside world is not asked for what runs on this machine.
        outside = parts.hostname not in _LOOPBACK
        self._clients = ClientPool(client, trust_env=outside, encrypted=parts.scheme == "https")

    async def get(self, path: str, *, timeout_s: float = ANSWER_S) -> Any:
        """The JSON at ``path``, None for an empty body. Raises :class:`Refused` and :class:`LocalFailure`."""
        return _decoded(await self.call("GET", path, timeout_s=timeout_s), self._name)

    async def post(self, path: str, body: JsonObject, *, timeout_s: float = ANSWER_S) -> Any:
        """As :meth:`get`, for what is sent. The keys of ``body`` keep their order: it means something in schemas."""
        return _decoded(await self.call("POST", path, content=encoded(body), timeout_s=timeout_s), self._name)

    async def call(
        self, method: str, path: str, *, content: bytes | None = None, timeout_s: float = ANSWER_S
    ) -> httpx.Response:
        """One exchange, with a status under 400. Raises :class:`Refused` and :class:`LocalFailure`."""
        if self._closed:
            raise LocalFailure(f"the connection to {self._name} was closed")
        headers = {**self._headers, "content-type": "application/json"} if content is not None else self._headers
        timeout = httpx.Timeout(timeout_s, connect=min(CONNECT_S, timeout_s))
        request: dict[str, Any] = {"content": content, "headers": headers, "auth": self._auth, "timeout": timeout}
        try:
            with self._clients.lend() as client:
                try:
                    response = await client.request(method, self.url + path, **request)
                except _CUT_OFF:
                    # Servers close connections that were idle for some seconds, perhaps just as one is used again.
                    # Everything asked here may be asked twice, so a fresh connection decides.
                    response = await client.request(method, self.url + path, **request)
        except httpx.ConnectError as error:
            raise LocalFailure(f"{self._name} cannot be reached at {self.url}: {self._cure}") from error
        except httpx.TimeoutException as error:
            raise LocalFailure(
                f"{self._name} at {self.url} did not answer within {timeout_s:g} s; it is overloaded or hangs"
            ) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise LocalFailure(
                f"the connection to {self._name} at {self.url} broke ({type(error).__name__}); look into its log"
            ) from error
        if response.status_code >= 400:
            raise Refused(response.status_code, _said(response))
        return response

    async def aclose(self) -> None:
        """Close the connections."""
        self._closed = True
        await self._clients.aclose()


def encoded(body: JsonObject) -> bytes:
    """``body`` as JSON with its keys in their order. Raises :class:`LocalFailure` for what cannot be written down."""
    try:
        return json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except (ValueError, TypeError, RecursionError) as error:
        # The error itself may quote the input, which must not reach the log.
        raise LocalFailure(
            f"the question cannot be written as JSON ({type(error).__name__}): send finite numbers, whole characters "
            "and plain lists and objects"
        ) from None


def shortened(said: object) -> str:
    """A server's own words, fit for a message: one line, not long, without secrets."""
    return " ".join(redact(str(said)).split())[:_SAID_CHARS]


def _decoded(response: httpx.Response, name: str) -> Any:
    if not response.content:
        return None
    try:
        return msgspec.json.decode(response.content)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise LocalFailure(f"{name} sent something under status {response.status_code} that is not JSON") from None


def _said(response: httpx.Response) -> str:
    """Servers write ``{"error": {"message"}}``, ``{"error": text}``, ``{"detail": text}`` or plain text."""
    try:
        content = msgspec.json.decode(response.content)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return shortened(response.text) or response.reason_phrase
    found = content
    for key in ("error", "message", "detail"):
        if isinstance(found, dict) and key in found:
            found = found[key]
    return shortened(found)
