"""OpenRouter: Chat Completions in front of many providers, with the bill in the response.

Who serves a request is decided there, by price and load. So that none can cost more than was set aside, the request
names the highest rates to pay, and only providers that honour all of its parameters (structured output) are let in.
"""

from apprentice.remote.openai_api import Server
from apprentice.remote.openai_chat import PATH
from apprentice.remote.pricing import Price
from apprentice_actors.ports import JsonObject

PROVIDER = "openrouter"
BASE_URL = "https://openrouter.ai/api/v1"


def server(price: Price) -> Server:
    """The server, told not to route to anyone dearer than ``price``."""
    rates = [price.rates, *([price.long_rates] if price.long_rates else [])]
    highest = {
        "prompt": float(max(each.input for each in rates)),
        "completion": float(max(each.output for each in rates)),
    }
    routing: JsonObject = {"require_parameters": True, "max_price": highest}
    return Server(provider=PROVIDER, path=PATH, limit_field="max_tokens", states_cost=True, extra={"provider": routing})
