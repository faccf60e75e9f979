"""Azure's OpenAI service: the formats of OpenAI under other addresses, with the key in a header of its own.

Newer resources serve ``{endpoint}/openai/v1/…`` and take the deployment's name as the model. Older ones have the
deployment in the path and want an ``api-version``.
"""

from urllib.parse import quote, urlencode

from apprentice.remote import openai_chat, openai_responses
from apprentice.remote.openai_api import Server

PROVIDER = "azure"
_V1 = "/openai/v1"


def chat_server(deployment: str, api_version: str | None) -> Server:
    """Chat Completions; with ``api_version`` in the older form."""
    path = _V1 + openai_chat.PATH
    if api_version is not None:
        query = urlencode({"api-version": api_version})
        path = f"/openai/deployments/{quote(deployment, safe='')}{openai_chat.PATH}?{query}"
    return Server(provider=PROVIDER, path=path, key_header="api-key")


def responses_server() -> Server:
    """Responses, which the v1 endpoint alone has."""
    return Server(provider=PROVIDER, path=_V1 + openai_responses.PATH, key_header="api-key")


def endpoint(base_url: str) -> str:
    """The resource's address, whether or not it was written with the path of the API behind it."""
    return base_url.rstrip("/").removesuffix("/v1").removesuffix("/openai")
