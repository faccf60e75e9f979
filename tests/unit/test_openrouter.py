from decimal import Decimal

import msgspec

from apprentice.remote import ChatFormat, Price, Rates, Secret, openrouter
from apprentice_actors.ports import Question


def rates(each: str) -> Rates:
    return Rates(**dict.fromkeys(Rates.__struct_fields__, Decimal(each)))


def test_a_request_names_the_highest_rates_to_pay():
    price = Price(
        provider="openrouter",
        model="m",
        rates=rates("1.5"),
        checked="2026-11-20",
        source="test",
        long_rates=rates("3"),
        long_above=100,
    )
    wire = ChatFormat("m", Secret("sk-or-unit-0123456789"), openrouter.server(price))
    body = msgspec.json.decode(wire.encode(Question(task="t", input={})))
    assert body["provider"] == {"require_parameters": True, "max_price": {"prompt": 3.0, "completion": 3.0}}
    assert wire.provider == "openrouter"
