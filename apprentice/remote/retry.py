"""When to try again: what the server asks for, and otherwise exponential back-off with full jitter.

Full jitter draws the pause uniformly between zero and the exponentially growing ceiling, which spreads a crowd of
clients best of the usual schemes (M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015).
"""

from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime

import msgspec

RETRY_AFTER_MAX_S = 86_400.0
NEVER = frozenset({400, 401, 402, 403, 404, 413, 422})
"""Statuses after which the same request cannot succeed, whatever a header says."""


class Backoff(msgspec.Struct, frozen=True, kw_only=True):
    """Pauses between attempts, in seconds."""

    first_s: float = 0.5
    max_s: float = 16.0
    stretch: float = 0.1
    """A pause that the server names is lengthened by up to this share, so that not all come back at once."""

    def pause_s(self, attempt: int, draw: float, retry_after_s: float | None = None) -> float:
        """The pause after failed attempt number ``attempt`` (from 1); ``draw`` is uniform in [0, 1)."""
        if retry_after_s is not None:
            return retry_after_s * (1 + self.stretch * draw)
        return draw * min(self.max_s, self.first_s * 2.0 ** min(attempt - 1, 60))


def retry_after_s(headers: Mapping[str, str], now_ns: int) -> float | None:
    """The pause that a response asks for: ``retry-after-ms``, or ``retry-after`` in seconds or as an HTTP date."""
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            return _bounded(float(headers[name]) * scale)
        except (KeyError, ValueError):
            continue
    try:
        at = parsedate_to_datetime(headers["retry-after"])
    except (KeyError, ValueError):
        return None
    # A date without a zone means UTC: RFC 9110, section 5.6.7, knows GMT only.
    return _bounded(at.replace(tzinfo=at.tzinfo or UTC).timestamp() - now_ns / 1e9)


def _bounded(seconds: float) -> float:
    if seconds != seconds:  # NaN passes through float() and through min()
        raise ValueError("the pause is not a number")
    return min(max(0.0, seconds), RETRY_AFTER_MAX_S)


def may_retry(status: int, headers: Mapping[str, str], default: bool) -> bool:
    """Whether to try again: ``x-should-retry`` has the word, except where no retry can help."""
    if status in NEVER:
        return False
    return {"true": True, "false": False}.get(headers.get("x-should-retry", ""), default)
