"""Noticing a response that was delivered before: it belongs to an earlier request.

A server or proxy that sends a response twice leaves the second copy in the connection's buffer, and the HTTP client
hands it out as the response to whatever is asked next; from then on every answer belongs to the question before. The
bodies of all formats carry an identifier, so the same bytes for another request cannot be right.
"""

from collections import OrderedDict
from hashlib import blake2b
from typing import Literal

REMEMBERED_MAX = 1024
"""A second copy is read by the next request on its connection, so a short memory is enough."""

type Delivery = Literal["new", "again", "stray"]
"""``again``: the same bytes for the same request body, which may be used; ``stray``: for another one."""


class Deliveries:
    """Which responses came for which requests, the newest ones."""

    def __init__(self) -> None:
        self._requests: OrderedDict[bytes, bytes] = OrderedDict()

    def note(self, request: bytes, response: bytes) -> Delivery:
        """Take in a response and say whether it came before."""
        asked, key = blake2b(request, digest_size=16).digest(), blake2b(response, digest_size=16).digest()
        known = self._requests.get(key)
        if known is not None:
            return "again" if known == asked else "stray"
        self._requests[key] = asked
        if len(self._requests) > REMEMBERED_MAX:
            self._requests.popitem(last=False)
        return "new"
