"""Paid models behind APIs: wire formats, prices, retries, rate limits and keys."""

from apprentice.remote.anthropic import AnthropicModel, MessagesFormat
from apprentice.remote.google import GeminiFormat
from apprentice.remote.http import HttpModel
from apprentice.remote.limits import LimitReached, RateLimiter
from apprentice.remote.openai_chat import ChatFormat
from apprentice.remote.openai_responses import ResponsesFormat
from apprentice.remote.pricing import Price, PriceTable, Rates, Tier
from apprentice.remote.secrets import Secret, redact
from apprentice.remote.wire import Completion, Malformed, Rejection, WireFormat

__all__ = [
    "AnthropicModel",
    "ChatFormat",
    "Completion",
    "GeminiFormat",
    "HttpModel",
    "LimitReached",
    "Malformed",
    "MessagesFormat",
    "Price",
    "PriceTable",
    "RateLimiter",
    "Rates",
    "Rejection",
    "ResponsesFormat",
    "Secret",
    "Tier",
    "WireFormat",
    "redact",
]
