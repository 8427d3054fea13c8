"""The API as a user types it: checked by pyright, never run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, assert_type

from google import genai
from google.genai.types import Content, GenerateContentConfig
from pydantic_ai import Agent
from pydantic_ai.models import Model

from batch_llm import (
    BaseMiddleware,
    BaseObserver,
    BatchResult,
    CallFailed,
    ContentFiltered,
    DefaultErrorClassifier,
    ErrorClassifier,
    ErrorInfo,
    ExponentialBackoffStrategy,
    FixedDelayStrategy,
    GeminiCachedStrategy,
    GeminiErrorClassifier,
    GeminiStrategy,
    LLMCallStrategy,
    LLMWorkItem,
    MetricsObserver,
    ModelStrategy,
    ParallelBatchProcessor,
    PostProcessorFunc,
    ProcessingEvent,
    ProcessorConfig,
    ProgressCallbackFunc,
    PydanticAIStrategy,
    RateLimitConfig,
    RateLimitStrategy,
    RetryConfig,
    TokenUsage,
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
post_processor: PostProcessorFunc[Summary, int] = save


async def batch() -> None:
    item = LLMWorkItem[None, Summary, int]("a", Summarize(), "text", context=3)
    assert_type(item.strategy, LLMCallStrategy[Summary])
    async with ParallelBatchProcessor[None, Summary, int](
        ProcessorConfig(max_workers=3),
        post_processor=post_processor,
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


def providers(agent: Agent[None, Summary], client: genai.Client, document: Content) -> None:
    assert_type(PydanticAIStrategy(agent=agent), PydanticAIStrategy[Summary])
    strategy = GeminiStrategy(model="gemini", client=client, response_parser=parse)
    assert_type(strategy, GeminiStrategy[Summary])
    cached = GeminiCachedStrategy(
        model="gemini",
        client=client,
        response_parser=parse,
        cached_content=[document],
        cache_ttl_seconds=600,
        cache_refresh_threshold=0.2,
        config=GenerateContentConfig(temperature=0),
    )
    assert_type(LLMWorkItem[None, Summary, None]("a", cached).strategy, LLMCallStrategy[Summary])


def parse(response: Any) -> Summary:
    return Summary(response.text)


def configurations() -> None:
    config = ProcessorConfig(
        max_workers=10,
        timeout_per_item=60.0,
        retry=RetryConfig(max_attempts=5, initial_wait=2, max_wait=30, exponential_base=3, jitter=False),
        rate_limit=RateLimitConfig(
            cooldown_seconds=60,
            slow_start_items=10,
            slow_start_initial_delay=1,
            slow_start_final_delay=0,
            backoff_multiplier=2,
            max_rate_limit_retries=5,
            max_cooldown_seconds=120,
        ),
        progress_interval=20,
        enable_detailed_logging=True,
        max_queue_size=1000,
        dry_run=True,
    )
    assert_type(config.retry.max_wait, float)
    ParallelBatchProcessor[None, Summary, int](config, error_classifier=DefaultErrorClassifier())
    ParallelBatchProcessor[None, Summary, int](config, error_classifier=GeminiErrorClassifier())


class Billed(LLMCallStrategy[Summary]):
    async def prepare(self) -> None: ...

    async def cleanup(self) -> None: ...

    def dry_run(self, prompt: str) -> Summary:
        return Summary(prompt)

    async def execute(self, prompt: str, attempt: int, timeout: float) -> tuple[Summary, dict[str, int]]:
        usage = TokenUsage({"input_tokens": 1}, safety_ratings={"HARM_CATEGORY_HARASSMENT": "LOW"})
        if not prompt:
            raise CallFailed(ContentFiltered("no"), usage)
        return Summary(prompt), usage


async def metrics(observer: MetricsObserver) -> None:
    assert_type(await observer.get_metrics(), dict[str, Any])
    assert_type(await observer.export_dict(), dict[str, Any])
    assert_type(await observer.export_json(), str)
    assert_type(await observer.export_prometheus(), str)


def report_on(batch: BatchResult[Summary, int]) -> None:
    for each in batch.results:
        assert_type(each.output, Summary | None)
        assert_type(each.error, str | None)
        assert_type(each.token_usage, dict[str, int])
        assert_type(each.gemini_safety_ratings, dict[str, str] | None)
        assert_type(each.error_info, ErrorInfo | None)
    assert_type(batch.total_input_tokens, int)


def inferred() -> None:
    item: LLMWorkItem[None, Summary, int] = LLMWorkItem("a", Summarize(), context=3)
    assert_type(item.context, int | None)
    ExponentialBackoffStrategy(cooldown_seconds=60, backoff_multiplier=2, max_cooldown_seconds=300)
    FixedDelayStrategy(cooldown_seconds=10)


def lean(model: Model) -> None:
    assert_type(ModelStrategy(model, instructions="Be brief."), ModelStrategy[str])
    assert_type(ModelStrategy(model, output_type=Summary, settings={"temperature": 0}), ModelStrategy[Summary])
    assert_type(ModelStrategy(model, output_type={"type": "object"}, reasks=2), ModelStrategy[dict[str, Any]])
    LLMWorkItem[None, Summary, None]("a", ModelStrategy(model, output_type=Summary), "text")
