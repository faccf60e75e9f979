"""Several HTTP clients in the place of one, because a client's connection pool grows slower with every call in flight.

On each request and each response, httpcore's pool (1.0) walks over all its connections once for every waiting call,
which is quadratic in the calls under way: with 64 of them a single client spends most of its time there. Spread over
clients, each pool stays small.
"""

import asyncio
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

CLIENTS_MAX = 16
_KEPT_ALIVE_MAX = 100
"""Idle connections that one client keeps."""


class ClientPool:
    """Lends the client with the fewest calls under way; more are made as they are needed, up to ``CLIENTS_MAX``.

    A ``client`` from outside is the only one then, and stays the caller's to close. ``trust_env`` is whether proxies of
    the environment are used, ``encrypted`` whether the addresses are https.
    """

    def __init__(
        self, client: httpx.AsyncClient | None = None, *, trust_env: bool = True, encrypted: bool = True
    ) -> None:
        self._owned = client is None
        self._trust_env = trust_env
        self._encrypted = encrypted
        self._trust: ssl.SSLContext | None = None
        self._calls: dict[httpx.AsyncClient, int] = {client: 0} if client is not None else {}

    @property
    def clients(self) -> int:
        """How many there are by now."""
        return len(self._calls)

    @contextmanager
    def lend(self) -> Iterator[httpx.AsyncClient]:
        """A client for one call, from the request to the end of its response."""
        client = self._least_loaded()
        self._calls[client] += 1
        try:
            yield client
        finally:
            self._calls[client] -= 1

    async def aclose(self) -> None:
        """Close the clients that were made here."""
        if self._owned:
            await asyncio.gather(*(client.aclose() for client in self._calls))

    def _least_loaded(self) -> httpx.AsyncClient:
        # Of equals the oldest: calls one after the other find the same connection, still open.
        found = min(self._calls, key=self._calls.__getitem__, default=None)
        if found is not None and not (self._calls[found] and self._may_grow):
            return found
        made = self._new_client()
        self._calls[made] = 0
        return made

    @property
    def _may_grow(self) -> bool:
        return self._owned and len(self._calls) < CLIENTS_MAX

    def _new_client(self) -> httpx.AsyncClient:
        if self._trust is None:  # reading the certificates takes milliseconds, so they are shared, or not read at all
            self._trust = httpx.create_ssl_context(verify=self._encrypted)
        # How many calls run at once is the limiter's business; the pool only must not add a limit of its own.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=_KEPT_ALIVE_MAX)
        return httpx.AsyncClient(limits=limits, verify=self._trust, trust_env=self._trust_env)
