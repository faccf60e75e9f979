"""What a provider's model list says about one model: announced shutdowns, and models that are there no more.

Each vendor tells it in fields of its own: Anthropic with ``lifecycle``, ``deprecated_at`` and ``retires_at``, OpenAI
with ``shutdown_date``, OpenRouter with ``expiration_date``; Google drops a model without a word before. All fields are
looked for everywhere, for servers that copy a format add what they like; what is missing says nothing.
"""

import asyncio
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

import httpx
import msgspec

from apprentice.remote.secrets import detached
from apprentice_actors.ports import JsonObject, NoticeUnknown

TIMEOUT_S = 30.0
GONE = "is no longer in its provider's model list"

_SHUTDOWN = ("shutdown_date", "retires_at", "expiration_date")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_NOT_FOUND = frozenset({"not_found_error", "model_not_found", "NOT_FOUND"})
"""The vendors' own words for an unknown model; any other 404 comes from something in between."""


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """How one vendor lists models: below the base URL, one model at a time unless ``whole``."""

    path: str
    whole: bool = False
    """Only the list of all models exists; a model under ``data`` is found by its ``id``."""
    strip: str = ""
    """What a model name may begin with that the path does not repeat."""


LISTINGS: Mapping[str, Listing] = {
    "anthropic": Listing(path="/v1/models"),
    "openai": Listing(path="/models"),
    "openai_compatible": Listing(path="/models"),
    "google": Listing(path="/v1beta/models", strip="models/"),
    "openrouter": Listing(path="/models", whole=True),
}
"""By provider of the configuration. Azure is missing: it lists base models, and who asks knows only a deployment."""


class ModelList:
    """One model in its provider's list. Implements :class:`apprentice_actors.ports.ModelNotices`.

    ``headers`` gives the headers of a request, the key among them. ``transport`` is for tests.
    """

    def __init__(
        self,
        listing: Listing,
        model: str,
        base_url: str,
        headers: Callable[[], Mapping[str, str]],
        *,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        bare_url, self._login = detached(base_url)
        self._listing = listing
        self._model = model.removeprefix(listing.strip)
        one = "" if listing.whole else f"/{quote(self._model, safe='')}"
        self._url = f"{bare_url.rstrip('/')}{listing.path}{one}"
        self._headers = headers
        self._transport = transport

    async def notice(self) -> str | None:
        """What is announced for the model, in words; None: nothing is. Raises :class:`NoticeUnknown`."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                status, content = await self._get()
        except (TimeoutError, httpx.HTTPError, httpx.InvalidURL) as error:
            raise NoticeUnknown(f"the model list at {self._url} was not read: {type(error).__name__}") from None
        told = _object(content)
        if status == 200 and not self._listing.whole:
            return announcement(told)
        if status == 200:
            return self._among(told)
        if status == 404 and told.get("error") is not None and _vendor_says_gone(told["error"]):
            return GONE
        raise NoticeUnknown(f"the model list at {self._url} was not read: status {status}")

    async def _get(self) -> tuple[int, bytes]:
        login = httpx.BasicAuth(*self._login) if self._login is not None else httpx.USE_CLIENT_DEFAULT
        async with httpx.AsyncClient(transport=self._transport, timeout=None) as client:  # bounded by the caller
            response = await client.get(self._url, headers=dict(self._headers()), auth=login)
            return response.status_code, response.content

    def _among(self, told: JsonObject) -> str | None:
        entries = told.get("data")
        listed = [one for one in entries if isinstance(one, dict)] if isinstance(entries, list) else []
        if not listed:
            raise NoticeUnknown(f"the model list at {self._url} is empty or no list")
        plain = self._model.partition(":")[0]  # a variant, such as `:nitro`, is not always listed
        for name in (self._model, plain):
            for one in listed:
                if name in (one.get("id"), one.get("canonical_slug")):
                    return announcement(one)
        return GONE


def announcement(model: Mapping[str, Any]) -> str | None:
    """An entry of a model list in words: when the model ends, or that it is deprecated; None for a model that stays.

    Only dates are taken over from the entry, no text.
    """
    ends = next((day for name in _SHUTDOWN if (day := _day(model.get(name)))), None)
    since = _day(model.get("deprecated_at"))
    stage = model.get("lifecycle")
    if stage == "retired":
        return f"was retired{f' on {ends}' if ends else ''}"
    if ends is not None:
        return f"will be shut down on {ends}"
    if stage == "deprecated" or since is not None:
        return f"is deprecated{f' since {since}' if since else ''}; no date of its end is given yet"
    return None


def _day(value: object) -> str | None:
    found = _DATE.match(value) if isinstance(value, str) else None
    return found[0] if found else None


def _object(content: bytes) -> JsonObject:
    try:
        told = msgspec.json.decode(content)
    except (msgspec.DecodeError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


def _vendor_says_gone(error: object) -> bool:
    words = (error.get("type"), error.get("code"), error.get("status")) if isinstance(error, dict) else ()
    return any(isinstance(word, str) and word in _NOT_FOUND for word in words)
