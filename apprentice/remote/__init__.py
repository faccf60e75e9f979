"""Paid models behind APIs: wire formats, prices, retries, rate limits and keys."""

from apprentice.remote.anthropic import AnthropicModel, MessagesFormat
from apprentice.remote.http import HttpModel
from apprentice.remote.limits import LimitReached, RateLimiter
from apprentice.remote.pricing import Price, PriceTable, Rates
from apprentice.remote.secrets import Secret, redact
from apprentice.remote.wire import Completion, Malformed, Rejection, WireFormat

__all__ = [
    "AnthropicModel",
    "Completion",
    "HttpModel",
    "LimitReached",
    "Malformed",
    "MessagesFormat",
    "Price",
    "PriceTable",
    "RateLimiter",
    "Rates",
    "Rejection",
    "Secret",
    "WireFormat",
    "redact",
]
