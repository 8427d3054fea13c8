"""Prices of items."""

from __future__ import annotations

from importlib.metadata import version

import pytest
from genai_prices import Usage, calc_price

from batch_llm.jobs.spending.prices import CostOf, prices_of
from tests.support.jobs import job

_USAGE = {"input_tokens": 1_000_000, "output_tokens": 1_000_000}


def cost_of(model: str) -> CostOf:
    return prices_of(job(model=model)).cost


@pytest.mark.parametrize("model", ["openai-chat:gpt-4.1-mini", "openai:gpt-4.1-mini"])
def test_a_known_model_has_its_price(model: str) -> None:
    """Under pydantic-ai's name of the model; cached tokens are cheaper."""
    cost = cost_of(model)
    full, cached = cost(_USAGE), cost({**_USAGE, "cached_input_tokens": 1_000_000})
    assert full is not None
    assert cached is not None
    assert 0 < cached < full


def test_gemini_direct_has_the_prices_of_google() -> None:
    """Both model names refer to the same provider."""
    assert cost_of("gemini-direct:gemini-2.5-flash")(_USAGE) == cost_of("google:gemini-2.5-flash")(_USAGE)


@pytest.mark.parametrize("model", ["openai-chat:my-own-model", "nobody:gpt-4.1"])
def test_an_unknown_price_is_none(model: str) -> None:
    """An unknown price is not reported as 0."""
    assert cost_of(model)(_USAGE) is None


def test_the_local_model_is_free() -> None:
    """The local model runs on this machine."""
    assert cost_of("local")(_USAGE) == 0.0


def test_own_strategy_has_only_own_prices() -> None:
    """The price of the default model does not apply to it."""
    assert prices_of(job(), own_strategy=True).cost(_USAGE) is None
    assert prices_of(job(prices={"input_mtok": 1, "output_mtok": 2}), own_strategy=True).cost(_USAGE) == 3.0


def test_own_prices_take_precedence_and_are_reported() -> None:
    """For the job's model, or for each model by name; cached tokens cost the same unless they have a price."""
    one = {"input_mtok": 0.5, "output_mtok": 1.5}
    cached = {**_USAGE, "cached_input_tokens": 400_000}
    assert prices_of(job(model="openai-chat:my-own-model", prices=one)).cost(cached) == 2.0
    named = job(
        model="openai-chat:gpt-4.1-mini", prices={"openai-chat:gpt-4.1-mini": {**one, "cached_input_mtok": 0.1}}
    )
    assert prices_of(named).cost(cached) == pytest.approx(0.6 * 0.5 + 0.4 * 0.1 + 1.5)
    assert prices_of(named).source == "own prices"
    other = job(model="openai-chat:my-own-model", prices={"openai-chat:gpt-4.1-mini": one})
    assert prices_of(other).cost(_USAGE) is None


def test_published_prices_have_a_version() -> None:
    assert prices_of(job(model="openai-chat:gpt-4.1-mini")).source == f"genai-prices {version('genai-prices')}"
    assert prices_of(job(model="nobody:gpt-4.1")).source == ""


@pytest.mark.parametrize("tokens", [10, 4_000, 200_001, 2_000_000])
@pytest.mark.parametrize(
    "model", ["openai:gpt-4.1-mini", "google:gemini-2.5-pro", "anthropic:claude-sonnet-4-5", "perplexity:sonar"]
)
def test_published_price_is_applied_exactly(model: str, tokens: int) -> None:
    """Including tiers, cached tokens, and a price per request."""
    provider, _, name = model.partition(":")
    usage = Usage(input_tokens=tokens, cache_read_tokens=tokens // 3, output_tokens=77)
    wanted = calc_price(usage, name, provider_id=provider).total_price
    found = cost_of(model)({"input_tokens": tokens, "cached_input_tokens": tokens // 3, "output_tokens": 77})
    assert found == pytest.approx(float(wanted))
