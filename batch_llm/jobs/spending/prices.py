"""What an item costs: by the job's own prices or by genai-prices, offline; "unpriced" where neither knows the model.

A job calls models one request at a time. Each is priced by itself, at the service tier that answered it: prices for
long contexts depend on the tokens of one request, not on their sum.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from importlib.metadata import version
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeAlias

from batch_llm.jobs.job import LOCAL, BatchJob
from batch_llm.jobs.per_model import PRICE_NAMES, own_prices
from batch_llm.strategies.base import TokenUsage

from .rates import Rates, rates_of

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice

CostOf: TypeAlias = Callable[[Mapping[str, float]], float | None]
"""From an item's token usage to USD; None where the model's price is not known."""

Context: TypeAlias = tuple[tuple[str, str], ...]
"""What of an answer decides its price: `(("service_tier", "flex"),)`."""

# pydantic-ai's names of ways to a provider, and the provider as genai-prices knows it.
_PROVIDERS = {
    "openai-chat": "openai",
    "openai-responses": "openai",
    "gemini-direct": "google",
    "google-gla": "google",
    "google-cloud": "google",
    "google-vertex": "google",
    "bedrock": "aws",
    "azure": "azure",
    "grok": "x-ai",
    "xai": "x-ai",
}

_PLAIN_TIERS = frozenset({"default", "standard", "auto", "on_demand", "on-demand", "standard_only"})
"""Words of providers for the tier whose prices are the plain ones."""

_PRICES_LAST_SECONDS = 60.0
"""Some prices depend on the time of day."""

Requests: TypeAlias = tuple[tuple[Mapping[str, float], Context], ...]


@dataclass(frozen=True, slots=True)
class PriceList:
    """What the calls of a job cost.

    Attributes:
        cost: Prices the tokens of an item.
        source: Where the prices are from, with their version; empty where there are none.
        missing: Names what of an item's usage has no price of its own, and is priced without it; empty for nothing.
    """

    cost: CostOf
    source: str
    missing: Callable[[Mapping[str, float]], str] = lambda usage: ""


def prices_of(job: BatchJob, *, own_strategy: bool = False) -> PriceList:
    """Return the prices of a job's calls; finding them costs more than using them.

    Args:
        job: The job; its own `prices` win.
        own_strategy: Whether the caller brings a strategy, of which a model that nobody has set says nothing.
    """
    if own := own_prices(job.prices, job.model):
        from genai_prices.types import ModelPrice

        named = {PRICE_NAMES[name]: Decimal(str(value)) for name, value in own.items()}
        rates = rates_of(ModelPrice(**named))
        return PriceList(lambda usage: _sum(usage, lambda context: rates), "own prices")
    if job.model == LOCAL:
        return PriceList(lambda usage: None, "") if own_strategy else PriceList(lambda usage: 0.0, "a local model")
    return _published(job.model)


@cache
def _published(model: str) -> PriceList:
    provider_name, _, reference = model.partition(":")
    from genai_prices.data_snapshot import get_snapshot

    provider = _PROVIDERS.get(provider_name, provider_name)
    try:
        _, info = get_snapshot().find_provider_model(reference, None, provider, None)
    except LookupError:
        return PriceList(lambda usage: None, "")
    published = _Published(info)
    return PriceList(
        lambda usage: _sum(usage, published.rates), f"genai-prices {version('genai-prices')}", published.missing
    )


def _sum(usage: Mapping[str, float], rates: Callable[[Context], Rates]) -> float:
    """Return what all requests of an item cost; a usage that does not list them is one request."""
    if isinstance(usage, TokenUsage) and (requests := usage.requests):
        if len(requests) == 1:
            return float(rates(requests[0].context).cost(requests[0].units))
        return float(sum((rates(one.context).cost(one.units) for one in requests), Decimal(0)))
    units = {name: count for name, count in usage.items() if count and name not in _OURS}
    if cached := usage.get("cached_input_tokens"):
        units["cache_read_tokens"] = cached
    return float(rates(()).cost(units))


def tier_of(usage: Mapping[str, float]) -> str:
    """Return the service tier that answered, where it is not the standard one; empty where it is."""
    if isinstance(usage, TokenUsage):
        for one in usage.requests:
            for name, value in one.context:
                if name == "service_tier" and value not in _PLAIN_TIERS:
                    return value
    return ""


_OURS = frozenset({"total_tokens", "cached_input_tokens", "estimated_tokens"})


class _Published:
    """The published prices of one model, at each tier, as they are now."""

    def __init__(self, info: ModelInfo) -> None:
        self._info = info
        self._rates: dict[Context, Rates] = {}
        self._until = 0.0

    def rates(self, context: Context) -> Rates:
        """Return the prices at a tier."""
        now = monotonic()
        if now > self._until:
            self._rates, self._until = {}, now + _PRICES_LAST_SECONDS
        found = self._rates.get(context)
        if found is None:
            found = self._rates[context] = rates_of(self._at(context))
        return found

    def missing(self, usage: Mapping[str, float]) -> str:
        """Name what has no price: a tier, or searches and the like that are billed beside the tokens."""
        if not isinstance(usage, TokenUsage):
            return ""
        found = dict[str, None]()
        for one in usage.requests:
            found |= {f"{name} {value}": None for name, value in one.context if not self._is_priced(name, value)}
            if len(one.units) > 2:
                found |= dict.fromkeys(self.rates(one.context).unpriced(one.units))
        return ", ".join(found)

    def _at(self, context: Context) -> ModelPrice:
        asked = dict(context)
        if asked.get("service_tier") == "batch":
            asked = {**asked, "processing": "batch"}
        return self._info.get_prices(datetime.now(UTC), asked)

    def _is_priced(self, name: str, value: str) -> bool:
        if name != "service_tier" or value in _PLAIN_TIERS:
            return True
        variants: list[Any] = self._info.price_variants or []
        return any(
            each.when.get(name) == value or (value == "batch" and each.when.get("processing") == value)
            for each in variants
        )
