import datetime as dt
from decimal import Decimal

import pytest

from apprentice.errors import InvalidConfig
from apprentice.remote.pricing import Price, PriceTable, Rates
from apprentice_events.vocabulary import TokenUsage

TABLE = PriceTable.load()


def price(provider: str, model: str) -> Price:
    found = TABLE.find(provider, model)
    assert found is not None
    return found


def test_a_bill_worked_out_by_hand():
    # Sonnet 4.5: $3 in, $15 out, $0.30 read, $3.75 and $6 written, per million.
    usage = TokenUsage(input_tokens=1_000, output_tokens=200, cache_read_tokens=5_000, cache_write_tokens=900)
    cost = price("anthropic", "claude-sonnet-4-5-20250929").cost_nd(usage, cache_write_1h_tokens=400)
    assert cost == 1_000 * 3_000 + 200 * 15_000 + 5_000 * 300 + 500 * 3_750 + 400 * 6_000


def test_reasoning_is_part_of_the_output_and_not_billed_twice():
    sonnet = price("anthropic", "claude-sonnet-4-5-20250929")
    assert sonnet.cost_nd(TokenUsage(output_tokens=10, reasoning_tokens=8)) == 150_000


def test_a_bill_is_rounded_up_once():
    rates = Rates(**dict.fromkeys(Rates.__struct_fields__, Decimal("0.000001")))
    tiny = Price(provider="p", model="m", rates=rates, checked="2026-01-01", source="test")
    # A millionth of a dollar per million tokens is a thousandth of a nano-dollar per token.
    assert tiny.cost_nd(TokenUsage()) == 0
    assert tiny.cost_nd(TokenUsage(input_tokens=1)) == 1
    assert tiny.cost_nd(TokenUsage(input_tokens=600, output_tokens=400)) == 1
    assert tiny.cost_nd(TokenUsage(input_tokens=600, output_tokens=401)) == 2


def test_long_prompts_are_billed_at_their_own_rates():
    haiku = price("anthropic", "claude-haiku-5-5")
    assert haiku.cost_nd(TokenUsage(input_tokens=100_000)) == 100_000 * 100
    assert haiku.cost_nd(TokenUsage(input_tokens=100_001)) == 100_001 * 500
    # What was read from the cache counts towards the length.
    assert haiku.cost_nd(TokenUsage(input_tokens=1, cache_read_tokens=100_000)) == 500 + 100_000 * 50


@pytest.mark.parametrize("wrong", [{"input_tokens": -1}, {"cache_write_tokens": 5}])
def test_impossible_counts_are_refused(wrong):
    with pytest.raises(ValueError, match="claude-sonnet-4-5"):
        price("anthropic", "claude-sonnet-4-5").cost_nd(TokenUsage(**wrong), cache_write_1h_tokens=6)


def test_aliases_are_found_and_prefixes_are_not():
    assert TABLE.find("anthropic", "claude-sonnet-4-5") == TABLE.find("anthropic", "claude-sonnet-4-5-20250929")
    assert TABLE.find("anthropic", "claude-sonnet-4-5-20991231") is None
    assert TABLE.find("anthropic", "claude") is None
    assert TABLE.find("openai", "claude-sonnet-4-5") is None


@pytest.mark.parametrize(
    ("provider", "model", "rates"),
    [
        ("anthropic", "claude-opus-4-5", ("5", "25")),
        ("anthropic", "claude-haiku-4-5", ("1", "5")),
        ("openai", "gpt-4o", ("2.50", "10")),
        ("openai", "gpt-4o-mini", ("0.15", "0.60")),
        ("google", "gemini-2.5-flash", ("0.30", "2.50")),
    ],
)
def test_well_known_prices(provider, model, rates):
    found = price(provider, model).rates
    assert (found.input, found.output) == tuple(map(Decimal, rates))


def test_every_entry_is_dated_sourced_and_plausible():
    assert len(TABLE) > 20
    for (provider, name), entry in TABLE:
        assert provider == entry.provider
        assert dt.date.fromisoformat(entry.checked) <= dt.date(2026, 11, 20), name
        assert entry.source
        assert 0 < entry.rates.input < entry.rates.output, name
        assert (
            entry.rates.cache_read <= entry.rates.input <= entry.rates.cache_write_5m <= entry.rates.cache_write_1h
        ), name
        assert (entry.long_rates is None) == (entry.long_above == 0), name


def test_every_tier_is_plausible():
    tiers = [(entry, name, tier) for _, entry in TABLE for name, tier in entry.tiers.items()]
    assert len(tiers) > 20
    for entry, name, tier in tiers:
        cheaper = name == "flex"
        assert (tier.rates.input < entry.rates.input) == (tier.rates.output < entry.rates.output) == cheaper, (
            entry.model
        )
        assert tier.rates.cache_read <= tier.rates.input <= tier.rates.cache_write_5m <= tier.rates.cache_write_1h
        assert tier.long_rates is None or entry.long_rates is not None, entry.model


def test_the_tier_decides_the_rates():
    # GPT-5 mini: $0.25 in and $2 out, half of that in flex, $0.45 and $3.60 in priority.
    usage, mini = TokenUsage(input_tokens=1_000, output_tokens=100), price("openai", "gpt-5-mini")
    bills = {tier: mini.cost_nd(usage, service_tier=tier) for tier in (None, "default", "flex", "Priority", "new")}
    assert bills == {None: 450_000, "default": 450_000, "flex": 225_000, "Priority": 810_000, "new": 810_000}
    assert mini.bound_nd(1_000, 100) >= 810_000


def test_a_tier_without_prices_for_long_prompts_costs_the_dearer_of_what_is_known():
    # GPT-5.5 in priority: $12.50 in, and nothing is said of prompts above 272,000, which cost $10 in the standard tier.
    model = price("openai", "gpt-5.5")
    assert model.tiers["priority"].long_rates is None
    assert model.cost_nd(TokenUsage(input_tokens=300_000), service_tier="priority") == 300_000 * 12_500
    assert model.cost_nd(TokenUsage(input_tokens=300_000)) == 300_000 * 10_000


def test_anthropics_writes_cost_their_stated_multiples():
    for (provider, name), entry in TABLE:
        if provider == "anthropic":
            rates = entry.rates
            assert rates.cache_write_5m == rates.input * Decimal("1.25"), name
            assert rates.cache_write_1h == rates.input * 2, name


def test_an_override_stands_before_the_table_and_leaves_it_alone():
    own = TABLE.with_overrides(
        {("anthropic", "claude-haiku-4-5"): {"input": 0.5, "output": "2.5", "cache_read": None}}, checked="2026-11-20"
    )
    found = own.find("anthropic", "claude-haiku-4-5")
    assert found is not None
    # What is not given is taken at the dearest multiple: never less than what is billed.
    assert found.rates == Rates(
        input=Decimal("0.5"),
        output=Decimal("2.5"),
        cache_read=Decimal("0.5"),
        cache_write_5m=Decimal("0.625"),
        cache_write_1h=Decimal("1.25"),
    )
    assert (found.checked, found.source) == ("2026-11-20", "the configuration")
    assert price("anthropic", "claude-haiku-4-5").rates.input == 1
    assert own.find("openai", "gpt-4o") == price("openai", "gpt-4o")


def test_all_wrong_overrides_are_reported_together():
    with pytest.raises(InvalidConfig) as caught:
        TABLE.with_overrides(
            {
                ("x", "negative"): {"input": -1, "output": 1},
                ("x", "words"): {"input": "cheap", "output": 1},
                ("x", "half"): {"input": 1},
                ("x", "unknown"): {"input": 1, "output": 1, "inputt": 2},
                ("x", "per-token"): {"input": "0.0000001", "output": 1},
                ("x", "infinite"): {"input": "inf", "output": 1},
                ("x", "fine"): {"input": 0, "output": 0},
            },
            checked="2026-11-20",
        )
    named = [problem.split(":")[0] for problem in caught.value.problems]
    assert named == [
        f"the price of x/{name}" for name in ("negative", "words", "half", "unknown", "per-token", "infinite")
    ]


def test_the_text_for_an_unknown_model_says_what_to_write():
    text = TABLE.unknown("anthropic", "claude-next")
    assert "anthropic/claude-next" in text
    assert "claude-haiku-4-5" in text
    assert "price:\n    input:" in text
    assert "Models of" not in TABLE.unknown("nobody", "nothing")
