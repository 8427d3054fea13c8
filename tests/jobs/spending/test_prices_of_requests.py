"""Every usage that genai-prices can price costs exactly what it computes, request by request."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from genai_prices import Usage, calc_price
from hypothesis import given
from hypothesis import strategies as st

from batch_llm.jobs.spending.prices import prices_of
from batch_llm.strategies.base import BilledRequest, TokenUsage
from batch_llm.strategies.billing import usage_of
from tests.support.jobs import job
from tests.support.selection import examples

_MODELS = {
    "openai-chat:gpt-5-mini": ("openai", "gpt-5-mini"),
    "openai-responses:gpt-4.1": ("openai", "gpt-4.1"),
    "openai-chat:gpt-4o-audio-preview": ("openai", "gpt-4o-audio-preview"),
    "anthropic:claude-haiku-4-5": ("anthropic", "claude-haiku-4-5"),
    "anthropic:claude-sonnet-4-5": ("anthropic", "claude-sonnet-4-5"),
    "google:gemini-2.5-pro": ("google", "gemini-2.5-pro"),
    "gemini-direct:gemini-2.5-flash": ("google", "gemini-2.5-flash"),
    "perplexity:sonar-deep-research": ("perplexity", "sonar-deep-research"),
    "groq:openai/gpt-oss-120b": ("groq", "openai/gpt-oss-120b"),
}
_TIERS: list[tuple[tuple[str, str], ...]] = [
    (),
    (("service_tier", "default"),),
    (("service_tier", "priority"),),
    (("service_tier", "flex"),),
    (("speed", "fast"),),
    (("processing", "batch"),),
]
_COUNTS = st.integers(0, 400_000)


@st.composite
def _units(draw: st.DrawFn) -> dict[str, float]:
    """Draw usage that a provider may report, in which no part exceeds its total."""
    plain, read, short, hour = draw(_COUNTS), draw(_COUNTS), draw(_COUNTS), draw(st.integers(0, 9_000))
    answer, thoughts = draw(_COUNTS), draw(_COUNTS)
    found: dict[str, float] = {"input_tokens": plain + read + short + hour, "output_tokens": answer + thoughts}
    chosen = draw(st.sets(st.sampled_from(["read", "write", "hour", "thoughts", "audio", "searches"])))
    if "read" in chosen:
        found["cache_read_tokens"] = read
    if "write" in chosen or "hour" in chosen:
        found["cache_write_tokens"] = short + hour
    if "hour" in chosen:
        found["cache_write_1h_tokens"] = hour
    if "thoughts" in chosen:
        found["output_reasoning_tokens"] = thoughts
    if "audio" in chosen:
        found |= {"input_audio_tokens": plain, "output_audio_tokens": answer, "cache_audio_read_tokens": 0}
    if "searches" in chosen:
        found["web_searches"] = draw(st.integers(0, 5))
    return found


def _by_genai_prices(model: str, request: BilledRequest) -> Decimal:
    provider, name = _MODELS[model]
    usage, context = Usage(**request.units), dict(request.context)
    if provider == "google" and context.get("service_tier") == "flex":
        context["processing"] = "batch"  # the same price; genai-prices has none for flex
    return calc_price(usage, name, provider_id=provider, price_context=context).total_price


@examples(300)
@given(st.sampled_from(sorted(_MODELS)), st.lists(st.tuples(_units(), st.sampled_from(_TIERS)), min_size=1, max_size=3))
def test_an_item_costs_the_sum_of_what_its_requests_cost(
    model: str, requests: list[tuple[dict[str, float], tuple[tuple[str, str], ...]]]
) -> None:
    billed = [BilledRequest(units, context) for units, context in requests]
    wanted = sum((_by_genai_prices(model, one) for one in billed), Decimal(0))
    assert prices_of(job(model=model)).cost(usage_of(billed)) == float(wanted)


def test_long_context_price_applies_per_request() -> None:
    """Two requests below the threshold are not one above it."""
    price = prices_of(job(model="google:gemini-2.5-pro")).cost
    one = BilledRequest({"input_tokens": 150_000, "output_tokens": 10})
    long = BilledRequest({"input_tokens": 300_000, "output_tokens": 20})
    twice, at_once = price(usage_of([one, one])), price(usage_of([long]))
    assert twice is not None
    assert at_once is not None
    assert twice < at_once


@pytest.mark.parametrize(
    ("context", "units", "missing"),
    [
        ((("service_tier", "scale"),), {}, "service_tier scale"),
        ((("service_tier", "priority"),), {}, ""),
        ((("service_tier", "default"),), {}, ""),
        ((("service_tier", "batch"),), {}, ""),
        ((), {"code_executions": 2}, "code executions"),
    ],
)
def test_parts_without_a_price_are_named(context: Any, units: dict[str, float], missing: str) -> None:
    request = BilledRequest({"input_tokens": 10, "output_tokens": 1, **units}, context)
    assert prices_of(job(model="openai-chat:gpt-5-mini")).missing(usage_of([request])) == missing


def test_own_prices_include_cache_writes() -> None:
    prices = {"input_mtok": 1, "output_mtok": 2, "cache_write_mtok": 5, "cache_write_1h_mtok": 10}
    cost = prices_of(job(model="openai-chat:mine", prices=prices)).cost
    units = {"input_tokens": 3_000_000, "output_tokens": 1_000_000, "cache_write_tokens": 2_000_000}
    assert cost(usage_of([BilledRequest({**units, "cache_write_1h_tokens": 1_000_000})])) == 1 + 5 + 10 + 2


def test_usage_of_an_own_strategy_is_priced_as_one_request() -> None:
    cost = prices_of(job(model="openai-chat:gpt-5-mini")).cost
    usage = {"input_tokens": 100, "output_tokens": 10, "total_tokens": 110, "cached_input_tokens": 50}
    wanted = calc_price(
        Usage(input_tokens=100, output_tokens=10, cache_read_tokens=50), "gpt-5-mini", provider_id="openai"
    )
    assert cost(usage) == cost(TokenUsage(usage)) == float(wanted.total_price)
