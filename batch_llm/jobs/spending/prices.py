"""Prices of items: the job's own prices, else genai-prices (offline); items of unknown models are unpriced.

Each request of an item is priced separately, at the service tier that answered it, because prices for long contexts
depend on the tokens of one request, not on their sum.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from importlib.metadata import version
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeAlias

from batch_llm.errors import JobError
from batch_llm.jobs.job import LOCAL, BatchJob
from batch_llm.jobs.per_model import PRICE_NAMES, own_prices
from batch_llm.strategies.base import BilledRequest, TokenUsage

from .unit_prices import QUANTA_PER_USD, UnitPrices, unit_prices_of

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice

CostOf: TypeAlias = Callable[[Mapping[str, float]], float | None]
"""Function from an item's token usage to its cost in USD; None if the model's price is not known."""

Context: TypeAlias = tuple[tuple[str, str], ...]
"""Attributes of an answer that determine its price: `(("service_tier", "flex"),)`."""

# Provider names in pydantic-ai and the corresponding names in genai-prices.
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
"""Names of the service tiers with standard prices."""

_PRICES_LAST_SECONDS = 60.0
"""How long prices are cached. Some prices depend on the time of day."""

OWN_PRICES_AT_FLEX = Decimal("0.5")
"""Assumed price at flex, as a part of the job's own prices."""

_FLEX = ("service_tier", "flex")


@dataclass(frozen=True, slots=True)
class PriceList:
    """Prices of a job's calls.

    Attributes:
        cost: Function that prices the token usage of an item.
        source: Source of the prices with its version; empty if there are no prices.
        missing: Function that names the parts of an item's usage without a price, which its cost leaves out.
        tiers: Service tiers with published prices; None if the model's prices are not published.
    """

    cost: CostOf
    source: str
    missing: Callable[[Mapping[str, float]], str] = lambda usage: ""
    tiers: frozenset[str] | None = None

    def cost_at(self, tier: str) -> CostOf:
        """Return the function that prices usage without details at a service tier."""

        def cost(usage: Mapping[str, float]) -> float | None:
            units = _units(usage)
            return self.cost(TokenUsage({}, requests=[BilledRequest(units, (("service_tier", tier),))]))

        return cost


def prices_of(job: BatchJob, *, own_strategy: bool = False) -> PriceList:
    """Return the prices of a job's calls. Looking them up is slow compared to using them.

    Args:
        job: The job; its own `prices` take precedence.
        own_strategy: Whether the caller passes a strategy; the default model then has no price.
    """
    if own := own_prices(job.prices, job.model):
        from genai_prices.types import ModelPrice

        named = {PRICE_NAMES[name]: Decimal(str(value)) for name, value in own.items()}
        own_unit_prices = unit_prices_of(ModelPrice(**named))
        at_flex = unit_prices_of(ModelPrice(**{name: value * OWN_PRICES_AT_FLEX for name, value in named.items()}))
        return PriceList(
            lambda usage: _sum(usage, lambda context: at_flex if _FLEX in context else own_unit_prices), "own prices"
        )
    if job.model == LOCAL:
        return PriceList(lambda usage: None, "") if own_strategy else PriceList(lambda usage: 0.0, "a local model")
    return _published(job.model)


def check_lane_price(job: BatchJob) -> None:
    """Check that the model of a job in the lane flex is sold at flex, if its prices are known.

    Raises:
        JobError: The model's published prices have none for flex.
    """
    # A compatible server has models and tiers of its own; Google's prices for flex are not published as data.
    if job.lane != "flex" or not job.model.startswith("openai") or os.environ.get("OPENAI_BASE_URL"):
        return
    tiers = prices_of(job).tiers
    if tiers is not None and "flex" not in tiers:
        raise JobError(
            f"{job.model!r} has no flex tier in the published prices: leave lane out, or choose another model"
        )


@cache
def _published(model: str) -> PriceList:
    provider_name, _, reference = model.partition(":")
    from genai_prices.data_snapshot import get_snapshot

    provider = _PROVIDERS.get(provider_name, provider_name)
    try:
        _, info = get_snapshot().find_provider_model(reference, None, provider, None)
    except LookupError:
        return PriceList(lambda usage: None, "")
    published = _Published(info, provider)
    return PriceList(
        lambda usage: _sum(usage, published.unit_prices),
        f"genai-prices {version('genai-prices')}",
        published.missing,
        published.tiers,
    )


def _sum(usage: Mapping[str, float], unit_prices: Callable[[Context], UnitPrices]) -> float:
    """Return the cost of all requests of an item; usage without a list of requests is priced as one request."""
    if isinstance(usage, TokenUsage) and (requests := usage.requests):
        if len(requests) == 1:
            return unit_prices(requests[0].context).cost(requests[0].units) / QUANTA_PER_USD
        return sum([unit_prices(one.context).cost(one.units) for one in requests]) / QUANTA_PER_USD
    return unit_prices(()).cost(_units(usage)) / QUANTA_PER_USD


def _units(usage: Mapping[str, float]) -> dict[str, float]:
    """Return usage without details under the names of genai-prices."""
    units = dict(usage)
    units.pop("total_tokens", None)
    units.pop("estimated_tokens", None)
    if cached := units.pop("cached_input_tokens", 0):
        units["cache_read_tokens"] = cached
    return units


def tier_of(usage: Mapping[str, float]) -> str:
    """Return the service tier that answered; empty for the standard tier."""
    if isinstance(usage, TokenUsage):
        for one in usage.requests:
            for name, value in one.context:
                if name == "service_tier" and value not in _PLAIN_TIERS:
                    return value
    return ""


class _Published:
    """Current published prices of one model at each service tier.

    Attributes:
        tiers: Service tiers with prices of their own.
    """

    def __init__(self, info: ModelInfo, provider: str) -> None:
        self._info = info
        self._sells_flex_as_batch = provider == "google"  # https://ai.google.dev/gemini-api/docs/flex-inference
        variants: list[Any] = info.price_variants or []
        found = {each.when.get(name) for each in variants for name in ("service_tier", "processing")}
        self.tiers = frozenset(str(tier) for tier in found if tier)
        self._unit_prices: dict[Context, UnitPrices] = {}
        self._until = 0.0

    def unit_prices(self, context: Context) -> UnitPrices:
        """Return the unit prices in a context, such as a service tier."""
        now = monotonic()
        if now > self._until:
            self._unit_prices, self._until = {}, now + _PRICES_LAST_SECONDS
        found = self._unit_prices.get(context)
        if found is None:
            found = self._unit_prices[context] = unit_prices_of(self._at(context))
        return found

    def missing(self, usage: Mapping[str, float]) -> str:
        """Return the names of parts of a usage without a price: a tier, or extras such as searches."""
        if not isinstance(usage, TokenUsage):
            return ""
        found: dict[str, None] = {}
        for one in usage.requests:
            if one.context:
                found |= {f"{name} {value}": None for name, value in one.context if not self._is_priced(name, value)}
            if len(one.units) > 2:
                found |= dict.fromkeys(self.unit_prices(one.context).unpriced(one.units))
        return ", ".join(found)

    def _at(self, context: Context) -> ModelPrice:
        asked = dict(context)
        tier = asked.get("service_tier", "")
        if tier == "batch" or (tier == "flex" and self._sells_flex_as_batch):
            asked = {**asked, "processing": "batch"}
        return self._info.get_prices(datetime.now(UTC), asked)

    def _is_priced(self, name: str, value: str) -> bool:
        if name != "service_tier" or value in _PLAIN_TIERS:
            return True
        return value in self.tiers or (value == "flex" and self._sells_flex_as_batch and "batch" in self.tiers)
