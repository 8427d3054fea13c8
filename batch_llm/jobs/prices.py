"""What an item costs, from genai-prices: offline, and honest where a model's price is not known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from genai_prices.types import ModelPrice

CostOf: TypeAlias = Callable[[Mapping[str, int]], float | None]
"""From an item's token usage to USD; None where the model's price is not known."""

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
}


def cost_of(model: str) -> CostOf:
    """Return what prices the items of a model; finding the price costs more than using it."""
    if model == "local":
        return lambda usage: 0.0
    provider_name, _, reference = model.partition(":")
    from genai_prices.data_snapshot import get_snapshot

    provider = _PROVIDERS.get(provider_name, provider_name)
    try:
        _, info = get_snapshot().find_provider_model(reference, None, provider, None)
    except LookupError:
        return lambda usage: None
    return _quick(info.get_prices(datetime.now(UTC)))


def _quick(price: ModelPrice) -> CostOf:
    """Return the sums that `calc_price` comes to, without the 0.14 ms that it takes for each.

    Up to the first tier a price is so much a call and so much a token.
    """
    from genai_prices import Usage
    from genai_prices.types import TieredPrices

    def exact(tokens: int, cached: int, answered: int) -> float:
        usage = Usage(input_tokens=tokens, cache_read_tokens=cached, output_tokens=answered)
        return float(price.calc_price(usage)["total_price"])

    prices: list[object] = list(vars(price).values())
    tiers = [tier.start for value in prices if isinstance(value, TieredPrices) for tier in value.tiers]
    most = min(tiers, default=None)
    call = exact(0, 0, 0)
    per_input, per_cached, per_output = (
        (exact(*thousand) - call) / 1000 for thousand in ((1000, 0, 0), (1000, 1000, 0), (0, 0, 1000))
    )

    def cost(usage: Mapping[str, int]) -> float | None:
        tokens, answered = usage.get("input_tokens", 0), usage.get("output_tokens", 0)
        cached = usage.get("cached_input_tokens", 0)
        if most is not None and tokens > most:
            return exact(tokens, cached, answered)
        return round(call + (tokens - cached) * per_input + cached * per_cached + answered * per_output, 12)

    return cost
