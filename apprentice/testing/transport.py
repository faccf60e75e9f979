"""Reaching a simulated provider without a socket, for loops on which time is virtual."""

import asyncio
from collections.abc import Mapping

import httpx

from apprentice.testing.http_server import Ending, Handler, Request, Response, Sleep


class FrontierTransport(httpx.AsyncBaseTransport):
    """Hands requests to ``handler`` and turns its endings into the errors that a real connection would give."""

    def __init__(self, handler: Handler, sleep: Sleep) -> None:
        self._handler = handler
        self._sleep = sleep

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer one request, after its delay. A request that is cancelled counts as abandoned."""
        headers: Mapping[str, str] = {name.lower(): value for name, value in request.headers.items()}
        body = await request.aread()
        response = self._handler(Request(request.method, request.url.raw_path.decode(), headers, body))
        try:
            await self._arrive(response)
        except asyncio.CancelledError:
            response.abandoned()
            raise
        match response.ending:
            case Ending.silent:
                raise httpx.RemoteProtocolError("Server disconnected without sending a response.", request=request)
            case Ending.cut:
                raise httpx.ReadError("the connection closed in the middle of the response", request=request)
            case _:
                return httpx.Response(response.status, headers=dict(response.headers), content=response.body)

    async def _arrive(self, response: Response) -> None:
        if response.ending is Ending.never:
            await asyncio.Event().wait()
        if response.delay_s > 0:
            await self._sleep(response.delay_s)
