"""What tokens cost: a dated table of prices, exact integer arithmetic, and no free models.

Rates are US dollars per million tokens, as the vendors print them. One such dollar is 1,000 nano-dollars per token;
with up to six decimals a rate is a whole number of thousandths of a nano-dollar, so a cost is computed in integers and
rounded up once, at the end. A model is found by its exact name or a listed alias only: guessing by prefix would price
tomorrow's model like yesterday's.
"""

from collections.abc import Iterator, Mapping
from decimal import Decimal
from importlib import resources
from typing import Any, Self

import msgspec

from apprentice.errors import InvalidConfig
from apprentice_events.vocabulary import TokenUsage

RATE_DECIMALS = 6
STANDARD_TIERS = frozenset({"standard", "default", "auto", "on_demand", "unspecified"})
"""How providers call the service tier without a name in a price list."""
_UNITS_PER_ND = 1_000
"""A rate times 10**6 counts thousandths of a nano-dollar per token."""
_MAX_RATE = 100_000
"""US dollars per million tokens; anything above is a typing error."""


def _units(rate: Decimal) -> int:
    return int(rate.scaleb(RATE_DECIMALS))


class Rates(msgspec.Struct, frozen=True, kw_only=True):
    """US dollars per million tokens.

    Cache writes are kept for a short or a long time: five minutes or one hour at Anthropic (whence the names), thirty
    minutes or twelve hours at OpenAI.
    """

    input: Decimal
    output: Decimal
    cache_read: Decimal
    cache_write_5m: Decimal
    cache_write_1h: Decimal

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            rate: Decimal = getattr(self, name)
            if not (rate.is_finite() and 0 <= rate <= _MAX_RATE and rate == round(rate, RATE_DECIMALS)):
                raise ValueError(
                    f"the {name} rate {rate} is not a price in US dollars per million tokens: "
                    f"write a number from 0 to {_MAX_RATE} with at most {RATE_DECIMALS} decimals"
                )

    def dearest_input(self) -> Decimal:
        """The highest rate at which a token of the prompt can be billed."""
        return max(self.input, self.cache_read, self.cache_write_5m, self.cache_write_1h)


class Tier(msgspec.Struct, frozen=True, kw_only=True):
    """What a service tier other than the standard one costs."""

    rates: Rates
    long_rates: Rates | None = None


class Price(msgspec.Struct, frozen=True, kw_only=True):
    """What one model costs. ``checked`` is the date of the look-up (ISO 8601), ``source`` where it was looked up."""

    provider: str
    model: str
    rates: Rates
    checked: str
    source: str
    long_rates: Rates | None = None
    """Rates for the whole request if its prompt, cache reads and writes included, exceeds ``long_above`` tokens."""
    long_above: int = 0
    tiers: Mapping[str, Tier] = {}
    """Prices of the service tiers ``flex``, ``priority`` …, as the provider names them in its responses."""

    def cost_nd(self, usage: TokenUsage, *, cache_write_1h_tokens: int = 0, service_tier: str | None = None) -> int:
        """The bill in nano-dollars, rounded up.

        ``usage.input_tokens`` excludes the cache. Of ``usage.cache_write_tokens``, ``cache_write_1h_tokens`` were
        written for the long time, the others for the short one. ``service_tier`` is the one that the response names;
        one that nobody has priced is billed at the dearest. Raises ``ValueError`` for counts that cannot be.
        """
        written_5m = usage.cache_write_tokens - cache_write_1h_tokens
        counts = (usage.input_tokens, usage.output_tokens, usage.cache_read_tokens, written_5m, cache_write_1h_tokens)
        if min(counts) < 0:
            raise ValueError(
                f"token counts of {self.model} cannot be negative: {usage}, {cache_write_1h_tokens} of it for 1 h"
            )
        prompt_tokens = usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens
        units = max(
            usage.input_tokens * _units(rates.input)
            + usage.output_tokens * _units(rates.output)
            + usage.cache_read_tokens * _units(rates.cache_read)
            + written_5m * _units(rates.cache_write_5m)
            + cache_write_1h_tokens * _units(rates.cache_write_1h)
            for rates in self._rates_for(prompt_tokens, service_tier)
        )
        return -(-units // _UNITS_PER_ND)

    def bound_nd(self, input_tokens: int, output_tokens: int) -> int:
        """The highest bill that at most so many tokens can cause, whatever cache and tier, in nano-dollars."""
        possible = [self.rates, *(tier.rates for tier in self.tiers.values())]
        if input_tokens > self.long_above:
            long = [self.long_rates, *(tier.long_rates for tier in self.tiers.values())]
            possible += [rates for rates in long if rates is not None]
        dearest = max(
            input_tokens * _units(rates.dearest_input()) + output_tokens * _units(rates.output) for rates in possible
        )
        return -(-dearest // _UNITS_PER_ND)

    def _rates_for(self, prompt_tokens: int, service_tier: str | None) -> list[Rates]:
        """The rates that may apply; several where a tier is not known, or not known for long prompts."""
        standard = Tier(rates=self.rates, long_rates=self.long_rates)
        if service_tier is None or service_tier.lower() in STANDARD_TIERS:
            tiers = [standard]
        elif service_tier.lower() in self.tiers:
            tiers = [self.tiers[service_tier.lower()]]
        else:
            tiers = [standard, *self.tiers.values()]
        if self.long_rates is None or prompt_tokens <= self.long_above:
            return [tier.rates for tier in tiers]
        return [
            rates
            for tier in tiers
            for rates in ([tier.long_rates] if tier.long_rates else [tier.rates, self.long_rates])
        ]


class _Row(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An entry as written. A cache rate that is not given is taken at the dearest multiple known for any vendor."""

    input: Decimal
    output: Decimal
    cache_read: Decimal | None = None
    cache_write_5m: Decimal | None = None
    cache_write_1h: Decimal | None = None

    def rates(self) -> Rates:
        return Rates(
            input=self.input,
            output=self.output,
            cache_read=self.input if self.cache_read is None else self.cache_read,
            cache_write_5m=self.input * Decimal("1.25") if self.cache_write_5m is None else self.cache_write_5m,
            cache_write_1h=self.input * Decimal("2.5") if self.cache_write_1h is None else self.cache_write_1h,
        )


class _Override(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A price as the configuration writes it; ``cache_write`` stands for the five-minute rate."""

    input: Decimal
    output: Decimal
    cache_read: Decimal | None = None
    cache_write: Decimal | None = None
    cache_write_1h: Decimal | None = None

    def rates(self) -> Rates:
        return _Row(
            input=self.input,
            output=self.output,
            cache_read=self.cache_read,
            cache_write_5m=self.cache_write,
            cache_write_1h=self.cache_write_1h,
        ).rates()


class _TierRow(_Row, frozen=True, kw_only=True, forbid_unknown_fields=True):
    long: _Row | None = None

    def tier(self) -> Tier:
        return Tier(rates=self.rates(), long_rates=None if self.long is None else self.long.rates())


class _Entry(_TierRow, frozen=True, kw_only=True, forbid_unknown_fields=True):
    provider: str
    model: str
    checked: str
    source: str
    aliases: tuple[str, ...] = ()
    long_above: int = 0
    tiers: dict[str, _TierRow] = {}

    def price(self) -> Price:
        return Price(
            provider=self.provider,
            model=self.model,
            rates=self.rates(),
            checked=self.checked,
            source=self.source,
            long_rates=None if self.long is None else self.long.rates(),
            long_above=self.long_above,
            tiers={name: row.tier() for name, row in self.tiers.items()},
        )


class PriceTable:
    """Prices by provider and exact model name. Immutable."""

    def __init__(self, prices: Mapping[tuple[str, str], Price]) -> None:
        self._prices = dict(prices)

    @classmethod
    def load(cls) -> Self:
        """The table that comes with the package."""
        text = resources.files(__package__).joinpath("prices.json").read_bytes()
        prices: dict[tuple[str, str], Price] = {}
        for entry in msgspec.json.decode(text, type=list[_Entry]):
            for name in (entry.model, *entry.aliases):
                assert (entry.provider, name) not in prices, f"prices.json names {entry.provider}/{name} twice"
                prices[entry.provider, name] = entry.price()
        return cls(prices)

    def with_overrides(self, overrides: Mapping[tuple[str, str], Mapping[str, Any]], *, checked: str) -> "PriceTable":
        """A table in which the configuration's own prices stand before the built-in ones.

        Keys are (provider, model); values have ``input`` and ``output`` and may have ``cache_read``,
        ``cache_write`` and ``cache_write_1h`` (None means not given). ``checked`` is the date to note.
        Raises :class:`InvalidConfig`.
        """
        prices = dict(self._prices)
        problems = []
        for (provider, model), rates in overrides.items():
            try:
                row = msgspec.convert(
                    {key: str(value) for key, value in rates.items() if value is not None}, type=_Override
                )
                prices[provider, model] = Price(
                    provider=provider, model=model, rates=row.rates(), checked=checked, source="the configuration"
                )
            except (msgspec.ValidationError, ValueError) as error:
                problems.append(f"the price of {provider}/{model}: {error}")
        if problems:
            raise InvalidConfig(problems, "the price section")
        return PriceTable(prices)

    def find(self, provider: str, model: str) -> Price | None:
        """The price, or None for a model that nobody has priced: such a model must be refused, never taken as free."""
        return self._prices.get((provider, model))

    def unknown(self, provider: str, model: str) -> str:
        """The error text for a model without a price, with the lines that would add it to the configuration."""
        known = sorted(name for its_provider, name in self._prices if its_provider == provider)
        listed = f" Models of {provider} with a known price: {', '.join(known)}." if known else ""
        return (
            f"the price of {provider}/{model} is not known, so its spend could not be bounded.{listed}\n"
            "Look it up and add it in US dollars per million tokens:\n"
            "remote:\n"
            "  price:\n"
            "    input: 0.00   # replace\n"
            "    output: 0.00  # replace"
        )

    def __len__(self) -> int:
        return len(self._prices)

    def __iter__(self) -> Iterator[tuple[tuple[str, str], Price]]:
        return iter(self._prices.items())
