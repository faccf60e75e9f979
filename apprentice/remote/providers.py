"""Every provider by its name in the configuration: which format it speaks, where, and what for a key.

A new provider is a wire format and one line in :data:`PROVIDERS`.
"""

from collections.abc import Callable, Mapping
from typing import Protocol

import httpx

from apprentice.config import ProviderConfig
from apprentice.remote import anthropic, azure, google, openai_api, openai_chat, openai_responses, openrouter
from apprentice.remote.http import HttpModel
from apprentice.remote.limits import RateLimiter
from apprentice.remote.model_list import LISTINGS, ModelList
from apprentice.remote.pricing import Price
from apprentice.remote.secrets import Secret
from apprentice.remote.wire import WireFormat
from apprentice_actors.ports import Clock, Randomness, RemoteModel


class MakeRemote(Protocol):
    """Makes the model that a provider's configuration describes. Raises ``InvalidConfig`` for a missing key.

    ``client`` stays the caller's to close; None makes one that the model closes. ``limiter`` is shared by models of
    one account; None makes one from the configuration.
    """

    def __call__(
        self,
        config: ProviderConfig,
        price: Price,
        clock: Clock,
        randomness: Randomness,
        *,
        limiter: RateLimiter | None = None,
        client: httpx.AsyncClient | None = None,
    ) -> RemoteModel: ...


type _MakeWire = Callable[[ProviderConfig, Price], WireFormat]


def key_of(config: ProviderConfig) -> Secret | None:
    """The key that the configuration names; None where it names none. Raises ``InvalidConfig`` if it cannot be read."""
    if config.api_key_file is not None:
        return Secret.from_file(config.api_key_file)
    return None if config.api_key_env is None else Secret.from_env(config.api_key_env)


def _needed_key(config: ProviderConfig) -> Secret:
    key = key_of(config)
    assert key is not None, "the configuration names the usual variable where none is given"
    return key


def _anthropic(config: ProviderConfig, price: Price) -> WireFormat:
    return anthropic.MessagesFormat(
        config.model, _needed_key(config), temperature=config.temperature, service_tier=config.service_tier
    )


def _google(config: ProviderConfig, price: Price) -> WireFormat:
    return google.GeminiFormat(
        config.model, _needed_key(config), temperature=config.temperature, service_tier=config.service_tier
    )


def _openai(config: ProviderConfig, price: Price) -> WireFormat:
    if config.api == "responses":
        return _responses(config, config.model, openai_responses.OPENAI)
    return _chat(config, config.model, openai_chat.OPENAI)


def _azure(config: ProviderConfig, price: Price) -> WireFormat:
    deployment = config.deployment or config.model
    if config.api == "responses":
        return _responses(config, deployment, azure.responses_server())
    return _chat(config, deployment, azure.chat_server(deployment, config.api_version))


def _openrouter(config: ProviderConfig, price: Price) -> WireFormat:
    return _chat(config, config.model, openrouter.server(price))


def _compatible(config: ProviderConfig, price: Price) -> WireFormat:
    return _chat(config, config.model, openai_chat.COMPATIBLE)


def _chat(config: ProviderConfig, model: str, server: openai_api.Server) -> WireFormat:
    return openai_chat.ChatFormat(
        model, key_of(config), server, temperature=config.temperature, service_tier=config.service_tier
    )


def _responses(config: ProviderConfig, model: str, server: openai_api.Server) -> WireFormat:
    return openai_responses.ResponsesFormat(
        model, key_of(config), server, temperature=config.temperature, service_tier=config.service_tier
    )


def _provider(make_wire: _MakeWire, base_url: str = "", address: Callable[[str], str] = str) -> MakeRemote:
    """``base_url`` is the provider's own, empty where everyone has another; ``address`` tidies the configured one."""

    def make(
        config: ProviderConfig,
        price: Price,
        clock: Clock,
        randomness: Randomness,
        *,
        limiter: RateLimiter | None = None,
        client: httpx.AsyncClient | None = None,
    ) -> RemoteModel:
        own = RateLimiter(clock, max_concurrent=config.max_concurrent, requests_per_minute=config.requests_per_minute)
        return HttpModel(
            make_wire(config, price),
            model=config.model,
            price=price,
            base_url=address(config.base_url or base_url),
            max_attempts=config.max_attempts,
            limiter=limiter or own,
            clock=clock,
            randomness=randomness,
            client=client,
        )

    return make


_LISTED: Mapping[str, tuple[_MakeWire, str]] = {
    "anthropic": (_anthropic, anthropic.BASE_URL),
    "openai": (_openai, openai_api.BASE_URL),
    "google": (_google, google.BASE_URL),
    "openrouter": (_openrouter, openrouter.BASE_URL),
    "openai_compatible": (_compatible, ""),
}


def model_list(
    config: ProviderConfig, price: Price, *, transport: httpx.AsyncBaseTransport | None = None
) -> ModelList | None:
    """The model in its provider's list; None for a provider whose list does not tell. ``transport`` is for tests."""
    if config.provider not in _LISTED:
        return None
    make_wire, base_url = _LISTED[config.provider]
    wire = make_wire(config, price)
    listing = LISTINGS[config.provider]
    return ModelList(listing, config.model, config.base_url or base_url, wire.headers, transport=transport)


PROVIDERS: Mapping[str, MakeRemote] = {
    "anthropic": _provider(_anthropic, anthropic.BASE_URL),
    "openai": _provider(_openai, openai_api.BASE_URL),
    "google": _provider(_google, google.BASE_URL),
    "azure": _provider(_azure, address=azure.endpoint),
    "openrouter": _provider(_openrouter, openrouter.BASE_URL),
    "openai_compatible": _provider(_compatible),
}
"""The providers of the configuration, each with what makes its model."""
