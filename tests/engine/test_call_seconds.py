"""The duration of a call, apart from what an item waited for before it."""

from __future__ import annotations

import asyncio

import pytest

from batch_llm import (
    LLMCallStrategy,
    LLMWorkItem,
    ParallelBatchProcessor,
    ProcessorConfig,
    RateLimitConfig,
    RetryConfig,
)


class Slow(LLMCallStrategy[str]):
    """Fails twice, after 1 s and 2 s, and answers after 3 s."""

    async def execute(self, prompt: str, attempt: int, timeout: float) -> tuple[str, dict[str, int]]:
        await asyncio.sleep(attempt)
        if attempt < 3:
            raise TimeoutError
        return prompt, {}


@pytest.mark.looptime
async def test_call_seconds_are_those_of_the_last_call_and_the_rest_is_waiting() -> None:
    retry = RetryConfig(max_attempts=3, initial_wait=10, exponential_base=2, jitter=False)
    config = ProcessorConfig(retry=retry, rate_limit=RateLimitConfig())
    async with ParallelBatchProcessor[str, str, None](config) as processor:
        await processor.add_work(LLMWorkItem("a", Slow(), "text"))
        (result,) = (await processor.process_all()).results
    assert result.call_seconds == pytest.approx(3, abs=0.01)
    assert result.duration_seconds == pytest.approx(1 + 10 + 2 + 20 + 3, abs=0.1)


async def test_an_item_that_was_never_called_has_no_call_seconds() -> None:
    async with ParallelBatchProcessor[str, str, None](ProcessorConfig()) as processor:
        processor.stop()
        await processor.add_work(LLMWorkItem("a", Slow(), "text"))
        (result,) = (await processor.process_all()).results
    assert result.call_seconds == 0.0
