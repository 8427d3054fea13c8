"""Contenders under a limit: our engine, another engine of the same kind, and a semaphore.

Each takes a `Task`, makes ready, and returns the run, which tells how many of its items succeeded. All make the same
calls by bare aiohttp, so that what is measured is when they are made.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any

import aiohttp

from batch_llm import (
    DefaultErrorClassifier,
    Governor,
    Limits,
    LLMCallStrategy,
    LLMWorkItem,
    ParallelBatchProcessor,
    ProcessorConfig,
)

from .clients import Bare
from .contenders import RIVAL

MANY = 500
BY_HAND = 10
"""Places of the semaphore: with answers of 200 ms, the most that a limit of 50 requests a second lets pass."""

PROMPT_WORDS = 100


class Calls(LLMCallStrategy[str]):
    """Makes the calls and, after half of the items, the change."""

    def __init__(self, calls: LLMCallStrategy[str], items: int, change: Callable[[], Awaitable[object]]) -> None:
        self._calls, self._change, self._left = calls, change, items // 2

    async def execute(self, prompt: str, attempt: int, timeout: float) -> tuple[str, dict[str, int]]:
        answer = await self._calls.execute(prompt, attempt, timeout)
        self._left -= 1
        if self._left == 0:
            await self._change()
        return answer


@dataclass(frozen=True, slots=True)
class Task:
    """So many items to be called through `strategy`.

    Attributes:
        requests_per_minute, tokens_per_minute: The limit, if the contender knows it.
    """

    items: int
    strategy: LLMCallStrategy[str]
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None

    def prompts(self) -> list[str]:
        """Return a prompt for each item."""
        return [" ".join([f"item-{number}", *["word"] * (PROMPT_WORDS - 1)]) for number in range(self.items)]


@asynccontextmanager
async def calling(url: str) -> AsyncGenerator[LLMCallStrategy[str]]:
    """Make calls whose refusals raise with their status and headers, over as many connections as it takes."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, raise_for_status=True) as session:
        yield Bare(session, url)


async def governed(task: Task) -> int:
    """Our engine with a governor, which gets the limit of the task."""
    told = Limits(requests_per_minute=task.requests_per_minute, tokens_per_minute=task.tokens_per_minute)
    config = ProcessorConfig(max_workers=MANY)
    return await _run(ParallelBatchProcessor[None, str, None](config, governor=Governor(told)), task)


async def engine(task: Task, *, max_workers: int) -> int:
    """Our engine as it comes, with so many workers."""
    return await _run(ParallelBatchProcessor[None, str, None](ProcessorConfig(max_workers=max_workers)), task)


async def _run(processor: ParallelBatchProcessor[None, str, None], task: Task) -> int:
    for number, prompt in enumerate(task.prompts()):
        await processor.add_work(LLMWorkItem(f"item-{number}", task.strategy, prompt))
    return (await processor.process_all()).succeeded


async def semaphore(task: Task, *, places: int) -> int:
    """A task per item behind a semaphore; what is refused keeps its place, and waits for `Retry-After`, or a second."""
    free, classifier = asyncio.Semaphore(places), DefaultErrorClassifier()

    async def call(prompt: str) -> bool:
        async with free:
            while True:
                try:
                    await task.strategy.execute(prompt, 1, 120.0)
                except aiohttp.ClientResponseError as refusal:
                    await asyncio.sleep(classifier.classify(refusal).suggested_wait or 1.0)
                else:
                    return True

    return sum(await asyncio.gather(*map(call, task.prompts())))


def rival(task: Task, **settings: Any) -> Awaitable[int]:
    """The package `async-batch-llm` with its documented defaults, but for what is given."""
    theirs: Any = importlib.import_module(RIVAL)

    class TheirCalls(theirs.LLMCallStrategy):
        async def execute(
            self, prompt: str, attempt: int, timeout: float, state: object = None
        ) -> tuple[str, dict[str, int], None]:
            return *await task.strategy.execute(prompt, attempt, timeout), None

    class TheirClassifier(theirs.ErrorClassifier):
        def classify(self, exception: Exception) -> Any:
            found = DefaultErrorClassifier().classify(exception)
            return theirs.ErrorInfo(
                is_retryable=found.is_retryable,
                is_rate_limit=found.is_rate_limit,
                is_timeout=False,
                error_category=found.category,
                suggested_wait=found.suggested_wait,
            )

    strategy: Any = TheirCalls()
    config = theirs.ProcessorConfig(max_requests_per_minute=task.requests_per_minute, **settings)

    async def run() -> int:
        async with theirs.ParallelBatchProcessor(config=config, error_classifier=TheirClassifier()) as processor:
            for number, prompt in enumerate(task.prompts()):
                await processor.add_work(theirs.LLMWorkItem(item_id=f"item-{number}", strategy=strategy, prompt=prompt))
            return (await processor.process_all()).succeeded

    return run()


OURS, RIVAL_MANY = "batch-llm", "async-batch-llm, 500 workers"
CAN_BE_TOLD = (OURS, RIVAL_MANY)
PACERS: dict[str, Callable[[Task], Awaitable[int]]] = {
    OURS: governed,
    "semaphore of 10, found by hand": partial(semaphore, places=BY_HAND),
    "semaphore of 500": partial(semaphore, places=MANY),
    "batch-llm, 5 workers, no governor": partial(engine, max_workers=5),
    "async-batch-llm, as it comes": rival,
    RIVAL_MANY: partial(rival, max_workers=MANY),
}


def is_installed(pacer: str) -> bool:
    """Whether it can run here: `async-batch-llm` comes with the dependency group `benchmark` only."""
    return not pacer.startswith("async-batch-llm") or find_spec(RIVAL) is not None
