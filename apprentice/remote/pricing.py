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
_UNITS_PER_ND = 1_000
"""A rate times 10**6 counts thousandths of a nano-dollar per token."""
_MAX_RATE = 100_000
"""US dollars per million tokens; anything above is a typing error."""


def _units(rate: Decimal) -> int:
    return int(rate.scaleb(RATE_DECIMALS))


class Rates(msgspec.Struct, frozen=True, kw_only=True):
    """US dollars per million tokens. Cache writes are kept for five minutes or for one hour."""

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

    def cost_nd(self, usage: TokenUsage, *, cache_write_1h_tokens: int = 0) -> int:
        """The bill in nano-dollars, rounded up.

        ``usage.input_tokens`` excludes the cache. Of ``usage.cache_write_tokens``, ``cache_write_1h_tokens`` were
        written for an hour, the others for five minutes. Raises ``ValueError`` for counts that cannot be.
        """
        written_5m = usage.cache_write_tokens - cache_write_1h_tokens
        counts = (usage.input_tokens, usage.output_tokens, usage.cache_read_tokens, written_5m, cache_write_1h_tokens)
        if min(counts) < 0:
            raise ValueError(
                f"token counts of {self.model} cannot be negative: {usage}, {cache_write_1h_tokens} of it for 1 h"
            )
        rates = self._rates_for(usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens)
        units = (
            usage.input_tokens * _units(rates.input)
            + usage.output_tokens * _units(rates.output)
            + usage.cache_read_tokens * _units(rates.cache_read)
            + written_5m * _units(rates.cache_write_5m)
            + cache_write_1h_tokens * _units(rates.cache_write_1h)
        )
        return -(-units // _UNITS_PER_ND)

    def bound_nd(self, input_tokens: int, output_tokens: int) -> int:
        """The highest bill that at most so many tokens can cause, whatever the cache does, in nano-dollars."""
        tiers = [self.rates]
        if self.long_rates is not None and input_tokens > self.long_above:
            tiers.append(self.long_rates)
        dearest = max(
            input_tokens * _units(rates.dearest_input()) + output_tokens * _units(rates.output) for rates in tiers
        )
        return -(-dearest // _UNITS_PER_ND)

    def _rates_for(self, prompt_tokens: int) -> Rates:
        if self.long_rates is not None and prompt_tokens > self.long_above:
            return self.long_rates
        return self.rates


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
            cache_write_1h=self.input * 2 if self.cache_write_1h is None else self.cache_write_1h,
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


class _Entry(_Row, frozen=True, kw_only=True, forbid_unknown_fields=True):
    provider: str
    model: str
    checked: str
    source: str
    aliases: tuple[str, ...] = ()
    long: _Row | None = None
    long_above: int = 0

    def price(self) -> Price:
        return Price(
            provider=self.provider,
            model=self.model,
            rates=self.rates(),
            checked=self.checked,
            source=self.source,
            long_rates=None if self.long is None else self.long.rates(),
            long_above=self.long_above,
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
