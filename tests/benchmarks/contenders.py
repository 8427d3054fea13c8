"""What is compared: the same calls, made by bare asyncio, by our engine, and by an engine of the same kind.

Each contender takes a `Load`, makes its items, and returns the run to be measured, which tells how many
items succeeded.
"""

from __future__ import annotations

import asyncio
import importlib
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from tempfile import TemporaryDirectory
from typing import Any

from batch_llm import (
    BaseMiddleware,
    BaseObserver,
    LLMCallStrategy,
    LLMWorkItem,
    MetricsObserver,
    ParallelBatchProcessor,
    ProcessingEvent,
    ProcessorConfig,
    ProcessorObserver,
    WorkItemResult,
)
from batch_llm.jobs import BatchJob
from batch_llm.jobs.execution.recorder import ResultRecorder
from batch_llm.jobs.execution.shard_tally import ShardTally
from batch_llm.jobs.ledger.records import LedgerWriter
from batch_llm.jobs.spending.prices import prices_of
from batch_llm.jobs.storage.store import Store

TIMEOUT_SECONDS = 120.0
PRICED = BatchJob.parse(
    {"source": "docs.jsonl", "prompt": "{text}", "output": "out.jsonl", "model": "openai-chat:gpt-4.1-mini"}
)
RIVAL = "async_batch_llm"

Item = LLMWorkItem[None, str, None]
Processor = ParallelBatchProcessor[None, str, None]
Timed = Callable[[], Awaitable[int]]


@dataclass(frozen=True, slots=True)
class Load:
    """So many items, at most `workers` at once, each of which waits `wait_seconds` (0: returns at once)."""

    items: int
    workers: int
    wait_seconds: float


class Echo(LLMCallStrategy[str]):
    """Gives the prompt back, as cheaply as a strategy can."""

    def __init__(self, wait_seconds: float) -> None:
        self._wait_seconds = wait_seconds

    async def execute(self, prompt: str, attempt: int, timeout: float) -> tuple[str, dict[str, int]]:
        if self._wait_seconds:
            await asyncio.sleep(self._wait_seconds)
        return prompt, {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}


def echoes(load: Load) -> Iterable[Item]:
    """Make the items one by one, all of one strategy."""
    strategy = Echo(load.wait_seconds)
    return (Item(f"item-{number}", strategy, "prompt") for number in range(load.items))


class PassThrough(BaseMiddleware):
    """Changes nothing, in hooks of its own."""

    async def before_process(self, work_item: LLMWorkItem[Any, Any, Any]) -> LLMWorkItem[Any, Any, Any]:
        return work_item

    async def after_process(
        self, work_item: LLMWorkItem[Any, Any, Any], result: WorkItemResult[Any, Any]
    ) -> WorkItemResult[Any, Any]:
        return result


class Indifferent(BaseObserver):
    """Does nothing about any event."""

    async def on_event(self, event: ProcessingEvent, data: dict[str, Any]) -> None:
        return None


def hooked(workers: int) -> Processor:
    """Make a processor with a middleware and two observers, one of which counts."""
    observers: list[ProcessorObserver] = [MetricsObserver(), Indifferent()]
    return Processor(ProcessorConfig(max_workers=workers), middlewares=[PassThrough()], observers=observers)


def loop(load: Load) -> Timed:
    """Workers that empty a deque with a timeout around each call: the limit for any engine."""
    waiting, results = deque(echoes(load)), list[tuple[str, dict[str, int]]]()

    async def work() -> None:
        while waiting:
            item = waiting.popleft()
            async with asyncio.timeout(TIMEOUT_SECONDS):
                results.append(await item.strategy.execute(item.prompt, 1, TIMEOUT_SECONDS))

    async def run() -> int:
        await asyncio.gather(*(work() for _ in range(load.workers)))
        return len(results)

    return run


def semaphore(load: Load) -> Timed:
    """A task per item, behind one semaphore: what a script without an engine does."""
    items, results = list(echoes(load)), list[tuple[str, dict[str, int]]]()

    async def run() -> int:
        places = asyncio.Semaphore(load.workers)

        async def call(item: Item) -> None:
            async with places, asyncio.timeout(TIMEOUT_SECONDS):
                results.append(await item.strategy.execute(item.prompt, 1, TIMEOUT_SECONDS))

        await asyncio.gather(*map(call, items))
        return len(results)

    return run


def process_all(load: Load) -> Timed:
    """Our engine, as it comes."""
    return _all(Processor(ProcessorConfig(max_workers=load.workers)), load)


def with_hooks(load: Load) -> Timed:
    """Our engine with hooks attached."""
    return _all(hooked(load.workers), load)


def _all(processor: Processor, load: Load) -> Timed:
    items = list(echoes(load))

    async def run() -> int:
        async with processor:
            for item in items:
                await processor.add_work(item)
            return (await processor.process_all()).succeeded

    return run


def process_stream(load: Load) -> Timed:
    """Our engine over a stream; results are counted and dropped."""
    items = list(echoes(load))

    async def run() -> int:
        results = Processor(ProcessorConfig(max_workers=load.workers)).process_stream(items)
        return sum([result.success async for result in results])

    return run


def kept(load: Load) -> Timed:
    """The same with each result in a ledger before its worker goes on, as a job's shard does it."""
    items = list(echoes(load))

    async def run() -> int:
        with TemporaryDirectory(prefix="batch-llm-ledger-") as folder, LedgerWriter(Store(folder), "part") as ledger:
            keeper = ResultRecorder(ledger, ShardTally(load.items), prices_of(PRICED), PRICED)
            config = ProcessorConfig(max_workers=load.workers)
            results = Processor(config, keeper.keep).process_stream(items)
            succeeded = sum([result.success async for result in results])
        keeper.check()
        return succeeded

    return run


def rival(load: Load) -> Timed:
    """The package `async-batch-llm`, through the same public names."""
    theirs: Any = importlib.import_module(RIVAL)

    class TheirEcho(theirs.LLMCallStrategy):
        async def execute(
            self, prompt: str, attempt: int, timeout: float, state: object = None
        ) -> tuple[str, dict[str, int], None]:
            if load.wait_seconds:
                await asyncio.sleep(load.wait_seconds)
            return prompt, {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}, None

    strategy: Any = TheirEcho()
    items = [
        theirs.LLMWorkItem(item_id=f"item-{number}", strategy=strategy, prompt="prompt") for number in range(load.items)
    ]

    async def run() -> int:
        config = theirs.ProcessorConfig(max_workers=load.workers)
        async with theirs.ParallelBatchProcessor(config=config) as processor:
            for item in items:
                await processor.add_work(item)
            return (await processor.process_all()).succeeded

    return run


CONTENDERS: dict[str, Callable[[Load], Timed]] = {
    "bare loop": loop,
    "bare semaphore": semaphore,
    "process_all": process_all,
    "process_stream": process_stream,
    "process_stream, ledger": kept,
    "process_all, hooks": with_hooks,
    "async-batch-llm": rival,
}


def is_installed(contender: str) -> bool:
    """Whether it can run here: `async-batch-llm` comes with the dependency group `benchmark` only."""
    return contender != "async-batch-llm" or find_spec(RIVAL) is not None
