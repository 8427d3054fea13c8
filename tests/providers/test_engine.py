"""Strategies in the engine over HTTP: tokens of every attempt, suggested waits, and stopped runs."""

from __future__ import annotations

from typing import Any

from pydantic_ai import Agent, NativeOutput
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from batch_llm import (
    BatchResult,
    LLMWorkItem,
    ParallelBatchProcessor,
    ProcessorConfig,
    PydanticAIStrategy,
    RateLimitConfig,
    RetryConfig,
)
from tests.support.servers import OpenAIServer

from .test_pydantic_ai import Book


async def run(server: OpenAIServer, items: int, output_type: Any = str) -> tuple[BatchResult[Any, None], Any]:
    """Run items with one question each, and return the results and the reason for an early end."""
    model = OpenAIChatModel("gpt", provider=OpenAIProvider(base_url=server.base_url, api_key="k"))
    agent: Agent[None, Any] = Agent(model, output_type=output_type, model_settings={"max_retries": 0})
    slow_start = RateLimitConfig(slow_start_items=0, cooldown_seconds=0.01)
    config = ProcessorConfig(max_workers=4, retry=RetryConfig(initial_wait=0.01, max_wait=0.02), rate_limit=slow_start)
    async with agent, ParallelBatchProcessor[None, Any, None](config) as processor:
        strategy = PydanticAIStrategy(agent)
        for index in range(items):
            await processor.add_work(LLMWorkItem(f"item {index}", strategy, f"question {index}"))
        return await processor.process_all(), processor.stopped_by


async def test_tokens_of_failed_attempts_are_counted(openai_server: OpenAIServer) -> None:
    """The tokens of an invalid answer count, also after a 500 and a success."""
    broken = OpenAIServer.broken_json()
    openai_server.script(broken, broken, OpenAIServer.server_error())
    result, _ = await run(openai_server, 1, NativeOutput(Book))
    assert (result.succeeded, result.results[0].attempts, openai_server.requests) == (1, 3, 4)
    assert result.total_input_tokens == openai_server.input_tokens
    assert result.total_output_tokens == openai_server.output_tokens


async def test_tokens_of_failed_items_are_counted(openai_server: OpenAIServer) -> None:
    """A blocked item is one failed call whose tokens are in the totals."""
    openai_server.script(OpenAIServer.content_filter())
    result, _ = await run(openai_server, 1)
    info = result.results[0].error_info
    assert info is not None
    assert (info.category, openai_server.requests) == ("content_filter", 1)
    assert (result.total_input_tokens, result.total_output_tokens) == (2, 3)


async def test_rate_limits_fail_no_item(openai_server: OpenAIServer) -> None:
    """Many 429s cause one cooldown as long as the provider suggests, and every item succeeds."""
    openai_server.script(*[OpenAIServer.rate_limit(0.05)] * 6)
    result, _ = await run(openai_server, 12)
    assert result.succeeded == 12
    assert openai_server.answered.total() == 12


async def test_a_bad_key_ends_the_run(openai_server: OpenAIServer) -> None:
    """A bad key causes at most one call per worker, not one per item."""
    openai_server.rule = lambda _: OpenAIServer.bad_key()
    result, stopped_by = await run(openai_server, 50)
    assert stopped_by is not None
    assert (stopped_by.category, result.succeeded) == ("auth", 0)
    assert openai_server.requests <= 4
