"""What an item costs, from genai-prices: offline, and honest where a model's price is not known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TypeAlias

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
    from genai_prices import Usage
    from genai_prices.data_snapshot import get_snapshot

    provider = _PROVIDERS.get(provider_name, provider_name)
    try:
        _, info = get_snapshot().find_provider_model(reference, None, provider, None)
    except LookupError:
        return lambda usage: None
    price = info.get_prices(datetime.now(UTC))

    def cost(usage: Mapping[str, int]) -> float | None:
        tokens = Usage(
            input_tokens=usage.get("input_tokens", 0),
            cache_read_tokens=usage.get("cached_input_tokens", 0),
            output_tokens=usage.get("output_tokens", 0),
        )
        return float(price.calc_price(tokens)["total_price"])

    return cost
