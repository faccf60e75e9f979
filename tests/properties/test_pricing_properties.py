from decimal import Decimal

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from apprentice.remote import ChatFormat, GeminiFormat, MessagesFormat, ResponsesFormat, Secret
from apprentice.remote.pricing import STANDARD_TIERS, Price, PriceTable, Rates, Tier
from apprentice_events.vocabulary import TokenUsage

rate = st.decimals(min_value=0, max_value=1_000, places=6)
rates = st.builds(Rates, input=rate, output=rate, cache_read=rate, cache_write_5m=rate, cache_write_1h=rate)
tiers = st.dictionaries(
    st.sampled_from(["flex", "priority", "ultrafast"]), st.builds(Tier, rates=rates, long_rates=st.none() | rates)
)
names = st.sampled_from([None, "default", "standard", "AUTO", "flex", "Priority", "ultrafast", "scale", "unheard-of"])
prices = st.builds(
    Price,
    provider=st.just("p"),
    model=st.just("m"),
    rates=rates,
    checked=st.just("2026-01-01"),
    source=st.just("test"),
    long_rates=st.none() | rates,
    long_above=st.integers(0, 5_000),
    tiers=tiers,
)
count = st.integers(0, 10_000)
usages = st.builds(
    TokenUsage, input_tokens=count, output_tokens=count, cache_read_tokens=count, cache_write_tokens=count
)


def applying(price: Price, prompt: int, tier: str | None) -> list[Rates]:
    """All rates that may apply, straight from the definition."""
    name = (tier or "standard").lower()
    standard = (price.rates, price.long_rates)
    others = {known: (each.rates, each.long_rates) for known, each in price.tiers.items()}
    pairs = [standard] if name in STANDARD_TIERS else [others[name]] if name in others else [standard, *others.values()]
    if price.long_rates is None or prompt <= price.long_above:
        return [short for short, _ in pairs]
    return [each for short, long in pairs for each in ([long] if long else [short, price.long_rates])]


def exact(price: Price, usage: TokenUsage, written_1h: int, tier: str | None = None) -> Decimal:
    """The bill in nano-dollars as a fraction, straight from the definition."""
    prompt = usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens
    return max(
        1_000
        * (
            usage.input_tokens * chosen.input
            + usage.output_tokens * chosen.output
            + usage.cache_read_tokens * chosen.cache_read
            + (usage.cache_write_tokens - written_1h) * chosen.cache_write_5m
            + written_1h * chosen.cache_write_1h
        )
        for chosen in applying(price, prompt, tier)
    )


@given(prices, usages, st.integers(0, 10_000), names)
def test_a_bill_is_the_exact_sum_rounded_up(price, usage, written_1h, tier):
    written_1h = min(written_1h, usage.cache_write_tokens)
    cost = price.cost_nd(usage, cache_write_1h_tokens=written_1h, service_tier=tier)
    assert 0 <= cost - exact(price, usage, written_1h, tier) < 1


@given(prices, usages, st.integers(0, 10_000), st.integers(0, 3_000), st.integers(0, 3_000), names)
def test_no_bill_within_the_bounds_exceeds_the_quote(price, usage, written_1h, more_in, more_out, tier):
    written_1h = min(written_1h, usage.cache_write_tokens)
    prompt = usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens
    bound = price.bound_nd(prompt + more_in, usage.output_tokens + more_out)
    assert price.cost_nd(usage, cache_write_1h_tokens=written_1h, service_tier=tier) <= bound


@given(prices, usages, usages)
def test_without_a_long_tier_two_bills_cost_at_most_one_nano_dollar_more_than_their_sum(price, one, other):
    flat = Price(provider="p", model="m", rates=price.rates, checked=price.checked, source=price.source)
    both = TokenUsage(**{name: getattr(one, name) + getattr(other, name) for name in TokenUsage.__struct_fields__})
    apart = flat.cost_nd(one) + flat.cost_nd(other)
    assert 0 <= apart - flat.cost_nd(both) <= 1


# ---------------------------------------------------------------- every provider's counting, every price of the table

TABLE = PriceTable.load()
KEY = Secret("sk-property-0123456789")
listed = st.sampled_from(sorted(TABLE, key=lambda item: item[0])).map(lambda item: item[1])
large = st.integers(0, 400_000)


def anthropic_body(u, long, tier):
    written = {"ephemeral_5m_input_tokens": u.cache_write_tokens - long, "ephemeral_1h_input_tokens": long}
    usage = {
        "input_tokens": u.input_tokens,
        "output_tokens": u.output_tokens,
        "cache_read_input_tokens": u.cache_read_tokens,
        "cache_creation_input_tokens": u.cache_write_tokens,
        "cache_creation": written,
        "service_tier": tier,
    }
    return MessagesFormat("m", KEY), {"model": "m", "content": [], "usage": usage}


def chat_body(u, long, tier):
    prompt = u.input_tokens + u.cache_read_tokens + u.cache_write_tokens
    details = {"cached_tokens": u.cache_read_tokens, "cache_write_tokens": u.cache_write_tokens}
    usage = {"prompt_tokens": prompt, "completion_tokens": u.output_tokens, "prompt_tokens_details": details}
    return ChatFormat("m", KEY), {"model": "m", "choices": [], "usage": usage, "service_tier": tier}


def responses_body(u, long, tier):
    details = {
        "cached_tokens": u.cache_read_tokens,
        "cache_write_tokens": u.cache_write_tokens,
        "cache_write_tokens_details": {"ttl_12h_tokens": long},
    }
    given = u.input_tokens + u.cache_read_tokens + u.cache_write_tokens
    usage = {"input_tokens": given, "output_tokens": u.output_tokens, "input_tokens_details": details}
    body = {"model": "m", "status": "completed", "output": [], "usage": usage, "service_tier": tier}
    return ResponsesFormat("m", KEY), body


def gemini_body(u, long, tier):
    usage = {
        "promptTokenCount": u.input_tokens + u.cache_read_tokens,
        "cachedContentTokenCount": u.cache_read_tokens,
        "candidatesTokenCount": u.output_tokens - u.output_tokens // 3,
        "thoughtsTokenCount": u.output_tokens // 3,
        "serviceTier": tier,
    }
    return GeminiFormat("m", KEY), {"usageMetadata": usage}


@given(
    listed,
    st.builds(TokenUsage, input_tokens=large, output_tokens=large, cache_read_tokens=large, cache_write_tokens=large),
    large,
    st.sampled_from([anthropic_body, chat_body, responses_body, gemini_body]),
    names,
)
def test_what_a_response_counts_costs_what_it_costs_by_hand(price, usage, long, speak, tier):
    long = min(long, usage.cache_write_tokens) if speak in (anthropic_body, responses_body) else 0
    if speak is gemini_body:
        usage, long = msgspec.structs.replace(usage, cache_write_tokens=0), 0
    wire, body = speak(usage, long, tier)
    read = wire.decode(msgspec.json.encode(body))
    cost_nd = price.cost_nd(
        read.usage, cache_write_1h_tokens=read.cache_write_1h_tokens, service_tier=read.service_tier
    )
    assert 0 <= cost_nd - exact(price, usage, long, tier) < 1
