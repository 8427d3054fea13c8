"""The API as a user types it: checked by pyright, never run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, assert_type

from batch_llm import (
    BaseMiddleware,
    BaseObserver,
    BatchResult,
    ErrorClassifier,
    ErrorInfo,
    ExponentialBackoffStrategy,
    FixedDelayStrategy,
    LLMCallStrategy,
    LLMWorkItem,
    MetricsObserver,
    ParallelBatchProcessor,
    ProcessingEvent,
    ProcessorConfig,
    ProgressCallbackFunc,
    RateLimitStrategy,
    WorkItemResult,
)


@dataclass
class Summary:
    title: str


class Summarize(LLMCallStrategy[Summary]):
    async def execute(self, prompt: str, attempt: int, timeout: float) -> tuple[Summary, dict[str, int]]:
        return Summary(prompt), {"input_tokens": 1}


class Classifier(ErrorClassifier):
    def classify(self, exception: Exception) -> ErrorInfo:
        return ErrorInfo(is_retryable=isinstance(exception, TimeoutError))


class Pause(RateLimitStrategy):
    async def handle_rate_limit(self, error_info: ErrorInfo, attempt: int) -> float:
        return (error_info.suggested_wait or 1.0) * attempt


class Watch(BaseObserver):
    async def on_event(self, event: ProcessingEvent, data: dict[str, Any]) -> None:
        if event is ProcessingEvent.ITEM_FAILED:
            print(data["error"])


class Trim(BaseMiddleware):
    async def before_process(self, work_item: LLMWorkItem[Any, Any, Any]) -> LLMWorkItem[Any, Any, Any] | None:
        return work_item if work_item.prompt.strip() else None


async def save(result: WorkItemResult[Summary, int]) -> None:
    if result.output is not None:
        assert_type(result.output, Summary)


def save_in_a_thread(result: WorkItemResult[Summary, int]) -> None:
    assert_type(result.context, int | None)


def report(completed: int, total: int, item_id: str) -> None: ...


callback: ProgressCallbackFunc = report


async def batch() -> None:
    item = LLMWorkItem[None, Summary, int]("a", Summarize(), "text", context=3)
    assert_type(item.strategy, LLMCallStrategy[Summary])
    async with ParallelBatchProcessor[None, Summary, int](
        ProcessorConfig(max_workers=3),
        post_processor=save,
        progress_callback=callback,
        error_classifier=Classifier(),
        rate_limit_strategy=Pause(),
        middlewares=[Trim()],
        observers=[Watch(), MetricsObserver()],
    ) as processor:
        await processor.add_work(item)
        result = await processor.process_all()
        assert_type(result, BatchResult[Summary, int])
        assert_type(result.results, list[WorkItemResult[Summary, int]])
        assert_type(processor.stopped_by, ErrorInfo | None)
        processor.stop()


async def stream(source: Iterator[LLMWorkItem[None, Summary, int]]) -> None:
    processor = ParallelBatchProcessor[None, Summary, int](ProcessorConfig(), post_processor=save_in_a_thread)
    async for result in processor.process_stream(source):
        assert_type(result, WorkItemResult[Summary, int])
    async with aclosing(processor.process_stream(asynchronous())) as results:
        assert_type(await anext(results), WorkItemResult[Summary, int])


async def asynchronous() -> AsyncIterator[LLMWorkItem[None, Summary, int]]:
    yield LLMWorkItem("a", Summarize())


def inferred() -> None:
    item: LLMWorkItem[None, Summary, int] = LLMWorkItem("a", Summarize(), context=3)
    assert_type(item.context, int | None)
    ExponentialBackoffStrategy(cooldown_seconds=60, backoff_multiplier=2, max_cooldown_seconds=300)
    FixedDelayStrategy(cooldown_seconds=10)
