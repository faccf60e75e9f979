from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from apprentice.remote.pricing import Price, Rates
from apprentice_events.vocabulary import TokenUsage

rate = st.decimals(min_value=0, max_value=1_000, places=6)
rates = st.builds(Rates, input=rate, output=rate, cache_read=rate, cache_write_5m=rate, cache_write_1h=rate)
prices = st.builds(
    Price,
    provider=st.just("p"),
    model=st.just("m"),
    rates=rates,
    checked=st.just("2026-01-01"),
    source=st.just("test"),
    long_rates=st.none() | rates,
    long_above=st.integers(0, 5_000),
)
count = st.integers(0, 10_000)
usages = st.builds(
    TokenUsage, input_tokens=count, output_tokens=count, cache_read_tokens=count, cache_write_tokens=count
)


def exact(price: Price, usage: TokenUsage, written_1h: int) -> Decimal:
    """The bill in nano-dollars as a fraction, straight from the definition."""
    prompt = usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens
    chosen = price.long_rates if price.long_rates is not None and prompt > price.long_above else price.rates
    return 1_000 * (
        usage.input_tokens * chosen.input
        + usage.output_tokens * chosen.output
        + usage.cache_read_tokens * chosen.cache_read
        + (usage.cache_write_tokens - written_1h) * chosen.cache_write_5m
        + written_1h * chosen.cache_write_1h
    )


@given(prices, usages, st.integers(0, 10_000))
def test_a_bill_is_the_exact_sum_rounded_up(price, usage, written_1h):
    written_1h = min(written_1h, usage.cache_write_tokens)
    cost = price.cost_nd(usage, cache_write_1h_tokens=written_1h)
    assert 0 <= cost - exact(price, usage, written_1h) < 1


@given(prices, usages, st.integers(0, 10_000), st.integers(0, 3_000), st.integers(0, 3_000))
def test_no_bill_within_the_bounds_exceeds_the_quote(price, usage, written_1h, more_in, more_out):
    written_1h = min(written_1h, usage.cache_write_tokens)
    prompt = usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens
    bound = price.bound_nd(prompt + more_in, usage.output_tokens + more_out)
    assert price.cost_nd(usage, cache_write_1h_tokens=written_1h) <= bound


@given(prices, usages, usages)
def test_without_a_long_tier_two_bills_cost_at_most_one_nano_dollar_more_than_their_sum(price, one, other):
    flat = Price(provider="p", model="m", rates=price.rates, checked=price.checked, source=price.source)
    both = TokenUsage(**{name: getattr(one, name) + getattr(other, name) for name in TokenUsage.__struct_fields__})
    apart = flat.cost_nd(one) + flat.cost_nd(other)
    assert 0 <= apart - flat.cost_nd(both) <= 1
