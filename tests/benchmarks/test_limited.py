"""The server of the limits benchmark refuses calls with a token bucket, in OpenAI's format."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urljoin

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_llm import DefaultErrorClassifier, LLMCallStrategy

from .bucket import Bucket
from .limited import LimitedServer
from .pacers import calling

SLOW = 0.01
"""A limit a second that does not fill noticeably while a test runs."""


@given(st.floats(0.1, 1e3), st.floats(0, 10), st.lists(st.floats(0, 2), min_size=1, max_size=50))
def test_bucket_allows_at_most_its_rate_and_burst(rate: float, burst: float, gaps: list[float]) -> None:
    """At any times of the calls: at most a full bucket plus what was added since."""
    bucket, now = Bucket(rate, burst), 0.0
    bucket.look(now)
    for gap in gaps:
        now += gap
        if not bucket.wait(now):
            bucket.take(1, now)
    assert bucket.taken <= bucket.capacity + rate * now + 1e-6
    assert bucket.allowed == pytest.approx(bucket.capacity + rate * now)


def test_bucket_returns_the_wait_until_the_next_call() -> None:
    """Also after it went below zero, and after its rate was changed."""
    bucket = Bucket(10, 0.1)
    assert bucket.wait(0) == 0
    bucket.take(6, 0)
    assert (bucket.wait(0), bucket.wait(0.5)) == pytest.approx((0.6, 0.1))
    assert bucket.wait(0.6) == 0
    bucket.take(1, 0.6)
    bucket.refill_at(5, 0.6)
    assert bucket.wait(0.6) == pytest.approx(0.2)


async def answer(strategy: LLMCallStrategy[str], prompt: str = "two words") -> dict[str, int]:
    """Make a call and return its tokens."""
    return (await strategy.execute(prompt, 1, 5.0))[1]


async def refusal(strategy: LLMCallStrategy[str]) -> aiohttp.ClientResponseError:
    """Make a call that is refused."""
    with pytest.raises(aiohttp.ClientResponseError) as caught:
        await answer(strategy)
    return caught.value


@asynccontextmanager
async def limited(**settings: Any) -> AsyncGenerator[tuple[LimitedServer, LLMCallStrategy[str]]]:
    """Serve within limits, and make calls as the benchmark does."""
    with LimitedServer(latency=0, **settings) as server:
        async with calling(server.base_url) as strategy:
            yield server, strategy


async def test_calls_over_the_limit_are_refused_until_it_is_raised() -> None:
    """The classifier sees a rate limit with the wait in whole seconds, and the server counts it for its client."""
    async with limited(requests_per_second=SLOW, remaining_headers=True) as (server, strategy):
        await answer(strategy)
        refused = await refusal(strategy)
        info = DefaultErrorClassifier().classify(refused)
        assert (info.category, info.suggested_wait) == ("rate_limit", 100)
        assert refused.headers is not None
        assert refused.headers["x-ratelimit-remaining-requests"] == "0"
        async with aiohttp.request("POST", urljoin(server.url, "/limit"), json={"requests_per_second": 1e6}):
            await answer(strategy)
        stats = server.stats()
    assert [len(stats[name]) for name in ("accepted_at", "refused_at")] == [2, 1]
    assert stats["clients"] == {"": {"accepted": 2, "refused": 1}}
    assert stats["limits"]["requests"]["taken"] == 2


async def test_output_tokens_are_taken_with_the_answer() -> None:
    """Output tokens are taken with the answer; below zero, nothing is accepted."""
    async with limited(tokens_per_second=SLOW, burst_seconds=300, answer_tokens=50) as (server, strategy):
        spent = await answer(strategy)
        refused = await refusal(strategy)
    assert spent["input_tokens"] == 2
    assert server.stats()["limits"]["tokens"]["taken"] == 2 + spent["output_tokens"]
    assert DefaultErrorClassifier().classify(refused).category == "rate_limit"


async def test_answers_have_varying_lengths() -> None:
    """The length depends on the prompt, so a repeated call costs the same."""
    async with limited(answer_tokens=200) as (_, strategy):
        lengths = [(await answer(strategy, f"item {number}"))["output_tokens"] for number in range(300)]
        assert lengths[7] == (await answer(strategy, "item 7"))["output_tokens"]
    assert sum(lengths) / len(lengths) == pytest.approx(200, rel=0.15)
    assert max(lengths) > 4 * min(lengths)
