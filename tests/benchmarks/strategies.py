"""Measure the engine's share of the CPU when calls go through a provider's SDK.

    python -m tests.benchmarks.strategies

takes two minutes; `--calls 20 --no-bounds` some seconds. The providers are loopback servers in processes of their own,
which answer at once, so that the client is what is slow. Each strategy has a fresh process.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import BaseModel
from rich.console import Console

from batch_llm import (
    GeminiCachedStrategy,
    GeminiStrategy,
    LLMCallStrategy,
    LLMWorkItem,
    ParallelBatchProcessor,
    ProcessorConfig,
    PydanticAIStrategy,
)

from .fresh import fresh
from .report import Bound, judge, show
from .sampling import CpuSampler, Owner
from .serving import served

WORKERS = 50
WARM_UP_CALLS = 10
MOST_OURS = 0.05
LEAST_SAMPLES = 100
"""Fewer say nothing about a share of 5 %."""

GEMINI_CALLS = 12
"""Calls to Gemini for one to an agent: they cost less, and a share near the bound wants many samples."""

AGENTS = ("PydanticAIStrategy, text", "PydanticAIStrategy, BaseModel")
GEMINI = ("GeminiStrategy", "GeminiCachedStrategy")


class Book(BaseModel):
    """An answer."""

    title: str
    pages: int


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU of the calls in their process; shares are from 0 to 1."""

    calls: int
    seconds: float
    cpu_seconds: float
    ours: float
    sdk: float
    event_loop: float
    samples: int

    def row(self, name: str) -> list[str]:
        """The strategy's row of the table."""
        speed, cpu = self.calls / self.seconds, self.cpu_seconds / self.calls * 1000
        shares = (f"{share:.1%}" for share in (self.ours, self.sdk, self.event_loop))
        return [name, f"{self.calls:,}", f"{speed:,.0f}", f"{cpu:.1f}", *shares, f"{self.samples:,}"]


@asynccontextmanager
async def agent(url: str, output_type: Any) -> AsyncGenerator[LLMCallStrategy[Any]]:
    """Make a strategy with an agent over OpenAI's API."""
    from pydantic_ai import Agent
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    model = OpenAIChatModel("gpt", provider=OpenAIProvider(base_url=url, api_key="k"))
    async with Agent(model, output_type=output_type, model_settings={"max_retries": 0}) as made:
        yield PydanticAIStrategy(made)


@asynccontextmanager
async def gemini(url: str, *, cached: bool) -> AsyncGenerator[LLMCallStrategy[Any]]:
    """Make a strategy on Google's own client."""
    from google import genai
    from google.genai.types import Content, HttpOptions, HttpRetryOptions, Part

    options = HttpOptions(base_url=url, retry_options=HttpRetryOptions(attempts=1))
    client = genai.Client(api_key="k", http_options=options)

    def text(response: Any) -> str:
        return response.text

    book = [Content(role="user", parts=[Part(text="word " * 2000)])]
    try:
        yield (
            GeminiCachedStrategy("gemini-2.5-flash", client, text, book)
            if cached
            else GeminiStrategy("gemini-2.5-flash", client, text)
        )
    finally:
        await client.aio.aclose()
        client.close()


async def call(strategy: LLMCallStrategy[Any], calls: int) -> None:
    """Make so many calls.

    Raises:
        RuntimeError: One of them did not succeed.
    """
    processor = ParallelBatchProcessor[None, Any, None](ProcessorConfig(max_workers=WORKERS))
    for number in range(calls):
        await processor.add_work(LLMWorkItem(f"item-{number}", strategy, f"the prompt of item {number}"))
    result = await processor.process_all()
    if result.succeeded != calls:
        raise RuntimeError(f"{result.succeeded} of {calls} calls succeeded")


async def cost(name: str, calls: int) -> Cost:
    """Measure one strategy in this process, after a few calls for what is imported or built at the first one."""
    with served("openai" if name in AGENTS else "gemini") as server:
        opened = (
            agent(server.url, Book if "BaseModel" in name else str)
            if name in AGENTS
            else gemini(server.url, cached="Cached" in name)
        )
        async with opened as strategy:
            await call(strategy, WARM_UP_CALLS)
            began, cpu_began = time.perf_counter(), time.process_time()
            with CpuSampler() as sampler:
                await call(strategy, calls)
            seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu_began
    shares = [sampler.share(whose) for whose in (Owner.OURS, Owner.SDK, Owner.LOOP)]
    return Cost(calls, seconds, cpu_seconds, *shares, samples=sampler.samples.total())


def bounds(costs: dict[str, Cost]) -> list[Bound]:
    """Return the bounds for the strategies."""
    return [
        Bound(
            f"{name}: the engine takes less than {MOST_OURS:.0%} of the CPU",
            f"{cost.ours:.1%} of {cost.samples:,} samples",
            cost.ours < MOST_OURS and cost.samples >= LEAST_SAMPLES,
        )
        for name, cost in costs.items()
    ]


def main() -> int:
    """Measure, print the table and the bounds, return the exit code."""
    parser = argparse.ArgumentParser(description="Measure the engine's share of the CPU.")
    parser.add_argument("--calls", type=int, default=500, help="calls to an agent; Gemini gets more")
    parser.add_argument("--no-bounds", action="store_true", help="judge nothing")
    parser.add_argument(
        "--here", choices=[*AGENTS, *GEMINI], help="measure one strategy in this process and print JSON"
    )
    options = parser.parse_args()
    if options.here:
        print(json.dumps(asdict(asyncio.run(cost(options.here, options.calls)))))
        return 0
    costs = _cost_of_each(options.calls)
    columns = ("strategy", "calls", "calls/s", "CPU per call, ms", *(whose.value for whose in Owner), "samples")
    show("The strategies", columns, [[each.row(name) for name, each in costs.items()]], f"{WORKERS} workers.")
    return 0 if options.no_bounds else judge(bounds(costs))


def _cost_of_each(calls: int) -> dict[str, Cost]:
    costs: dict[str, Cost] = {}
    with Console(stderr=True).status("") as status:
        for name in (*AGENTS, *GEMINI):
            count = calls if name in AGENTS else calls * GEMINI_CALLS
            status.update(f"{name}: {count:,} calls")
            costs[name] = Cost(**fresh("tests.benchmarks.strategies", "--here", name, "--calls", count))
    return costs


if __name__ == "__main__":
    raise SystemExit(main())
