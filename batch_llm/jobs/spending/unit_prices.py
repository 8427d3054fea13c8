"""Prices per token in a form that is fast to evaluate, with the same results as genai-prices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from genai_prices.types import ModelPrice

QUANTA_PER_USD = 10**24
"""Costs are whole numbers of this fraction of a dollar: as exact as decimals, and three times as fast."""

_MILLION = 1_000_000
_READ, _WRITE = "cache_read_tokens", "cache_write_tokens"
_OVERLAPS = tuple(f"cache_{kind}_read_tokens" for kind in ("audio", "image", "video"))
_QUICK = frozenset({"input_tokens", "output_tokens", _READ, _WRITE})


@dataclass(frozen=True, slots=True)
class UnitPrices:
    """Unit prices of a model at one service tier.

    Attributes:
        price: Prices in the form of genai-prices.
        relevant: Units on which the prices depend.
        call: Quanta per call.
        sent: Quanta per uncached input token.
        received: Quanta per output token.
        read: Quanta per token read from the cache.
        written: Quanta per token written to the cache.
        most: Maximum number of input tokens for these prices; None for no maximum.
    """

    price: ModelPrice
    relevant: frozenset[str]
    call: int
    sent: int
    received: int
    read: int
    written: int
    most: int | None

    def cost(self, units: Mapping[str, float]) -> int:
        """Return the cost of one request in quanta."""
        sent, received = units.get("input_tokens", 0), units.get("output_tokens", 0)
        if type(sent) is int and type(received) is int and (self.most is None or sent <= self.most):
            if len(units) == 2:
                return self.call + sent * self.sent + received * self.received
            read, written = units.get(_READ, 0), units.get(_WRITE, 0)
            if type(read) is int and type(written) is int and read + written <= sent and not self._has_others(units):
                rest = sent - read - written
                parts = rest * self.sent + read * self.read + written * self.written
                return self.call + parts + received * self.received
        return _quanta(_exact(self.price, {name: count for name, count in units.items() if name in self.relevant}))

    def unpriced(self, units: Mapping[str, float]) -> Iterator[str]:
        """Yield the units other than tokens that have no price."""
        for name in units:
            if not name.endswith("_tokens") and name not in self.relevant and name != "total_tokens":
                yield name.replace("_", " ")

    def _has_others(self, units: Mapping[str, float]) -> bool:
        return any(name in self.relevant and name not in _QUICK and units[name] for name in units)


def unit_prices_of(price: ModelPrice) -> UnitPrices:
    """Return the unit prices of a model's price list."""
    from genai_prices.types import TieredPrices
    from genai_prices.units import _get_registry as registry  # pyright: ignore[reportPrivateUsage]  no public way

    named = {name: value for name, value in vars(price).items() if value is not None}
    priced = {unit.usage_key for unit in registry().units.values() if unit.price_key in named}
    tiers = [tier.start for value in named.values() if isinstance(value, TieredPrices) for tier in value.tiers]
    call = _exact(price, {})

    def unit_price(units: Mapping[str, float]) -> int:
        # Computed at a count below the first tier; a power of ten keeps the quotient exact.
        count = 10 ** (len(str(min(tiers))) - 1) if tiers else _MILLION
        return _quanta((_exact(price, dict.fromkeys(units, count)) - call) / count)

    return UnitPrices(
        price,
        frozenset({"input_tokens", *priced}),
        _quanta(call),
        sent=unit_price({"input_tokens": 1}),
        received=unit_price({"output_tokens": 1}),
        read=unit_price({"input_tokens": 1, _READ: 1}),
        written=unit_price({"input_tokens": 1, _WRITE: 1}),
        most=min(tiers, default=None),
    )


def _quanta(usd: Decimal) -> int:
    return round(usd * QUANTA_PER_USD)


def _exact(price: ModelPrice, units: Mapping[str, float]) -> Decimal:
    """Return the price that genai-prices computes; from input and output only if the other units are inconsistent."""
    from genai_prices import Usage

    plain = {name: count for name, count in units.items() if name in ("input_tokens", "output_tokens")}
    # genai-prices requires overlaps of two units, such as audio read from a cache, which providers do not report.
    for usage in (units, {**dict.fromkeys(_OVERLAPS, 0), **units}):
        try:
            return price.calc_price(Usage(**usage))["total_price"]
        except ValueError:
            continue
    return price.calc_price(Usage(**plain))["total_price"]
