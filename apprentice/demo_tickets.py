"""Generated traffic for the demo: support tickets and property descriptions, and the hidden rules that answer them.

The rule for a ticket has two halves. The *category* is the ticket's topic; where two topics meet, the one about money
wins, then bug, account, shipping, feedback. The *priority* follows from how the ticket says it matters, one step more
urgent on the enterprise plan. Three answers in a hundred are a slip, as a real model's are. All of it is seeded.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from apprentice.remote.prompt import canonical_json
from apprentice_actors.ports import JsonObject

SLIPS = 0.03
"""Share of tickets that the simulated teacher gets wrong."""
TWO_TOPICS = 0.12
"""Share of tickets about two things at once: the hard ones."""
CATEGORIES = ("billing", "bug", "account", "shipping", "feedback")
"""In the order of who wins when two topics meet."""

_TOPICS: Mapping[str, Sequence[str]] = {
    "billing": (
        "I was charged twice for {month}",
        "the invoice for {month} shows {amount} euros instead of what we agreed",
        "please refund the {amount} euros that you took from my card",
        "my credit card was declined although it is valid",
        "I do not understand the tax on my {month} bill",
        "we need a copy of the receipt for {month}",
        "the discount code was not applied to the payment",
    ),
    "bug": (
        "the {screen} page crashes when I press save",
        "the app freezes as soon as I open the {screen} view",
        "I get error {code} every time I export a file",
        "search in the {screen} view returns nothing since the update",
        "the {screen} chart shows wrong numbers after the last release",
        "uploading a picture fails with message {code}",
        "the dark theme makes the {screen} buttons unreadable",
    ),
    "account": (
        "I cannot log in, the password reset mail never arrives",
        "please change the email address of my login to {name}@example.com",
        "how do I add {name} as a second user",
        "two factor login rejects my code",
        "please delete the profile of {name}",
        "I want to rename our workspace to {name}",
        "the invitation for {name} has expired",
    ),
    "shipping": (
        "my parcel has been stuck in {city} since Monday",
        "the courier left the package at the wrong door in {city}",
        "order {code} has not been delivered yet",
        "can you send the replacement to {city} instead",
        "the box arrived damaged from your warehouse",
        "the tracking number for order {code} does not work",
        "when will the delivery to {city} leave the depot",
    ),
    "feedback": (
        "I love the new {screen} view",
        "your support team was wonderful, thank {name} from me",
        "it would be nice to have a {screen} widget some day",
        "the tutorial about the {screen} page was really helpful",
        "a suggestion: make the {screen} icons a bit larger",
        "just wanted to say that the product keeps getting better",
    ),
}
_WEIGHTS = (28, 24, 18, 18, 12)
_SLOTS: Mapping[str, Sequence[str]] = {
    "month": ("January", "February", "March", "April", "May", "June", "July", "August"),
    "amount": ("19", "49", "120", "240", "999"),
    "screen": ("dashboard", "calendar", "report", "settings", "inbox", "billing history"),
    "code": ("E-102", "4471", "E-33", "9005", "X17"),
    "name": ("anna", "jonas", "priya", "the new intern", "marketing", "lee"),
    "city": ("Porto", "Vienna", "Leeds", "Lyon", "Gdansk", "Utrecht"),
}
_MATTERS: Mapping[int, Sequence[str]] = {
    1: (
        "This is an outage, nobody here can work.",
        "We are losing money every hour.",
        "Everything is down, call me immediately.",
    ),
    2: ("It blocks our release tomorrow.", "I need this today, please hurry.", "We have a deadline this afternoon."),
    3: ("Please have a look.", "Can you help me with that?", "I would appreciate an answer this week.", ""),
    4: ("No rush at all.", "It is a small thing.", "Whenever you find the time."),
}
_MATTERS_WEIGHTS = (12, 20, 46, 22)
_OPENINGS = ("Hello,", "Hi team,", "Good morning,", "Dear support,", "Hey there,", "", "Quick question:", "Me again.")
_CLOSINGS = ("Thanks!", "Best regards", "Sent from my phone", "", "", "Cheers", "Thank you for your patience.")
_JOINS = ("Also,", "By the way,", "Another thing:", "And one more point:")
_PLANS = ("free", "team", "enterprise")
_PLAN_WEIGHTS = (45, 45, 10)
_CHANNELS = ("email", "chat", "web form")

_CITIES = ("Porto", "Vienna", "Leeds", "Lyon", "Gdansk", "Utrecht")
_KINDS = {
    "house": ("detached house", "cottage", "terraced house"),
    "flat": ("flat", "apartment", "top floor flat"),
    "land": ("building plot", "piece of land"),
    "office": ("office", "co-working floor"),
}


class Sample(NamedTuple):
    """One request of the demo and what the simulated teacher answers to it."""

    given: JsonObject
    answer: JsonObject


def tickets(seed: int, count: int) -> list[Sample]:
    """``count`` different support tickets; the same ones for the same seed."""
    return _distinct(random.Random(f"tickets {seed}"), count, _ticket)


def properties(seed: int, count: int) -> list[Sample]:
    """``count`` different property descriptions; the same ones for the same seed."""
    return _distinct(random.Random(f"properties {seed}"), count, _property)


def rule(categories: Sequence[str], matters: int, plan: str) -> tuple[str, int]:
    """The hidden rule: category and priority of a ticket about ``categories`` that matters so much (1: most)."""
    category = min(categories, key=CATEGORIES.index)
    if category == "feedback":
        return category, 5
    return category, max(1, matters - (plan == "enterprise"))


def _ticket(chance: random.Random) -> Sample:
    categories = [_pick(chance, CATEGORIES, _WEIGHTS)]
    if chance.random() < TWO_TOPICS:
        categories.append(_pick(chance, CATEGORIES, _WEIGHTS))
    matters = _pick(chance, tuple(_MATTERS), _MATTERS_WEIGHTS)
    plan = _pick(chance, _PLANS, _PLAN_WEIGHTS)
    given = {
        "text": _letter(chance, categories, matters),
        "metadata": {"plan": plan, "channel": chance.choice(_CHANNELS)},
    }
    category, priority = _slip(chance, *rule(categories, matters, plan))
    return Sample(given, {"category": category, "priority": priority, "confidence": chance.choice((0.9, 0.95, 0.99))})


def _letter(chance: random.Random, categories: Sequence[str], matters: int) -> str:
    first, *others = [_fill(chance, chance.choice(_TOPICS[category])) for category in categories]
    sentences = [chance.choice(_OPENINGS), f"{first}."]
    sentences += [f"{chance.choice(_JOINS)} {other}." for other in others]
    if categories != ["feedback"]:
        sentences.append(chance.choice(_MATTERS[matters]))
    sentences.append(chance.choice(_CLOSINGS))
    return " ".join(sentence for sentence in sentences if sentence)


def _slip(chance: random.Random, category: str, priority: int) -> tuple[str, int]:
    if chance.random() >= SLIPS:
        return category, priority
    if chance.random() < 0.5:
        return chance.choice([other for other in CATEGORIES if other != category]), priority
    return category, priority + 1 if priority < 5 else 4


def _property(chance: random.Random) -> Sample:
    city, kind, bedrooms = chance.choice(_CITIES), chance.choice(tuple(_KINDS)), chance.randint(1, 5)
    price = chance.randrange(80, 900) * 1000
    if kind in ("land", "office"):
        bedrooms = 0
    rooms = f" with {bedrooms} bedrooms" if bedrooms else ""
    where = chance.choice((f"in {city}", f"near the centre of {city}", f"in a quiet street of {city}"))
    told = chance.choice(("", f" {price} euros.", f" Asking price {price}."))
    look, called = chance.choice(("Bright", "Charming", "Spacious", "Well kept")), chance.choice(_KINDS[kind])
    text = f"{look} {called}{rooms} {where}.{told}"
    answer: JsonObject = {"city": city, "property_type": kind, "bedrooms": bedrooms}
    return Sample({"text": text}, answer | ({"price": float(price)} if told else {}))


def _distinct(chance: random.Random, count: int, make: Callable[[random.Random], Sample]) -> list[Sample]:
    """Samples with different inputs: a teacher who is asked the same thing twice gives the same answer."""
    found: dict[str, Sample] = {}
    while len(found) < count:
        sample = make(chance)
        found.setdefault(canonical_json(sample.given), sample)
    return list(found.values())


def _fill(chance: random.Random, template: str) -> str:
    return template.format_map({name: chance.choice(values) for name, values in _SLOTS.items()})


def _pick[T](chance: random.Random, values: Sequence[T], weights: Sequence[int]) -> T:
    return chance.choices(values, weights)[0]
