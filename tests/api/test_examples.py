"""The reference's examples that need no provider, unchanged; `test_provider_examples.py` has the others."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest

from batch_llm import (
    ErrorClassifier,
    ErrorInfo,
    LLMCallStrategy,
    LLMWorkItem,
    MetricsObserver,
    ParallelBatchProcessor,
    ProcessorConfig,
    RetryConfig,
    WorkItemResult,
)
from batch_llm.middleware import BaseMiddleware

pytestmark = pytest.mark.looptime


@dataclass
class Response:
    text: str
    input_tokens: int = 2
    output_tokens: int = 3
    total_tokens: int = 5


class MyLLMAPI:
    """Provider that answers after a second, or fails as its prompt says."""

    def __init__(self) -> None:
        self.starts: list[float] = []

    async def generate(self, prompt: str) -> Response:
        self.starts.append(asyncio.get_running_loop().time())
        await asyncio.sleep(1)
        if prompt.startswith("raise "):
            raise RuntimeError(prompt.removeprefix("raise "))
        return Response(prompt.upper())


class MyCustomStrategy(LLMCallStrategy[str]):
    def __init__(self) -> None:
        self.api = MyLLMAPI()

    async def execute(self, prompt: str, attempt: int, timeout: float) -> tuple[str, dict[str, int]]:
        # Your custom LLM API call
        response = await self.api.generate(prompt)
        tokens = {
            "input_tokens": response.input_tokens,
            "output_tokens": response.output_tokens,
            "total_tokens": response.total_tokens,
        }
        return response.text, tokens


class MyErrorClassifier(ErrorClassifier):
    def classify(self, exception: Exception) -> ErrorInfo:
        error_str = str(exception).lower()
        if "rate limit" in error_str:
            return ErrorInfo(
                is_retryable=True,
                is_rate_limit=True,
                category="rate_limit",
            )
        elif "timeout" in error_str:  # noqa: RET505  as it stands in the reference
            return ErrorInfo(is_retryable=True, category="timeout")
        else:
            return ErrorInfo(is_retryable=False, category="unknown")


class LoggingMiddleware(BaseMiddleware):
    async def before_process(self, work_item: LLMWorkItem[Any, Any, Any]) -> LLMWorkItem[Any, Any, Any] | None:
        print(f"Processing {work_item.item_id}")
        return work_item

    async def after_process(
        self, work_item: LLMWorkItem[Any, Any, Any], result: WorkItemResult[Any, Any]
    ) -> WorkItemResult[Any, Any]:
        print(f"Completed {work_item.item_id}: {result.success}")
        return result


Item = LLMWorkItem[None, str, None]
Processor = ParallelBatchProcessor[None, str, None]


async def test_processor_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """The examples of `ParallelBatchProcessor`, `BatchResult` and `WorkItemResult` work."""
    config, my_strategy = ProcessorConfig(max_workers=5, timeout_per_item=60.0), MyCustomStrategy()
    async with Processor(config=config) as processor:
        for i in range(100):
            work_item = Item(item_id=f"item_{i}", strategy=my_strategy, prompt=f"Task {i}" if i else "raise nothing")
            await processor.add_work(work_item)
        result = await processor.process_all()
        print(f"Completed: {result.succeeded}/{result.total_items}")
    print(f"Processed {result.total_items} items")
    print(f"Success: {result.succeeded}, Failed: {result.failed}")
    print(f"Total tokens: {result.total_input_tokens + result.total_output_tokens}")
    for item_result in result.results:
        if item_result.success:
            print(f"✓ {item_result.item_id}: {item_result.output}")
            print(f"  Tokens: {item_result.token_usage}")
        else:
            print(f"✗ {item_result.item_id}: {item_result.error}")
    assert capsys.readouterr().out.splitlines()[:7] == [
        "Completed: 99/100",
        "Processed 100 items",
        "Success: 99, Failed: 1",
        "Total tokens: 495",
        "✗ item_0: RuntimeError: nothing",
        "✓ item_1: TASK 1",
        "  Tokens: {'input_tokens': 2, 'output_tokens': 3, 'total_tokens': 5}",
    ]


async def test_configuration_examples_run() -> None:
    retry_config = RetryConfig(max_attempts=5, initial_wait=2.0, max_wait=120.0, exponential_base=2.0, jitter=True)
    config = ProcessorConfig(
        max_workers=10,
        timeout_per_item=60.0,
        retry=RetryConfig(max_attempts=5, initial_wait=2.0),
        progress_interval=20,
        max_queue_size=1000,
    )
    assert (retry_config.max_wait, config.retry.max_wait, config.rate_limit.cooldown_seconds) == (120.0, 60.0, 300.0)


async def test_error_classifier_example_runs() -> None:
    strategy = MyCustomStrategy()
    config = ProcessorConfig(retry=RetryConfig(max_attempts=2, jitter=False))
    config.rate_limit.max_rate_limit_retries = 1
    processor = Processor(config=config, error_classifier=MyErrorClassifier())
    attempts: list[int] = []
    for text in ("raise Timeout of the line", "raise what?", "raise Rate Limit"):
        await processor.add_work(Item(text, strategy, text))
        attempts += [each.attempts for each in (await processor.process_all()).results]
    assert attempts == [2, 1, 2]
    assert strategy.api.starts == [0, 2, 3, 4, 305]


async def test_middleware_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    processor = Processor(ProcessorConfig(), middlewares=[LoggingMiddleware()])
    await processor.add_work(Item("a", MyCustomStrategy(), "text"))
    await processor.process_all()
    assert capsys.readouterr().out == "Processing a\nCompleted a: True\n"


async def test_metrics_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    config, metrics, strategy = ProcessorConfig(), MetricsObserver(), MyCustomStrategy()
    processor = Processor(config=config, observers=[metrics])
    for i in range(3):
        await processor.add_work(Item(f"item_{i}", strategy, f"Task {i}" if i else "raise nothing"))
    await processor.process_all()
    # Get metrics
    metrics_data = await metrics.get_metrics()
    print(f"Items processed: {metrics_data['items_processed']}")
    print(f"Success rate: {metrics_data['success_rate']:.1%}")
    # Export for monitoring
    prometheus_text = await metrics.export_prometheus()
    assert capsys.readouterr().out == "Items processed: 3\nSuccess rate: 66.7%\n"
    assert 'batch_llm_items_total{status="succeeded"} 2' in prometheus_text


class Database:
    def __init__(self) -> None:
        self.saved: dict[str, str | None] = {}

    async def save(self, item_id: str, output: str | None) -> None:
        self.saved[item_id] = output


async def test_callback_examples_run(capsys: pytest.CaptureFixture[str]) -> None:
    config, database, strategy = ProcessorConfig(), Database(), MyCustomStrategy()

    async def save_result(result: WorkItemResult[str, None]) -> None:
        if result.success:
            await database.save(result.item_id, result.output)

    async def on_progress(completed: int, total: int, current_item: str) -> None:
        print(f"Progress: {completed}/{total} - {current_item}")

    processor = Processor(config=config, post_processor=save_result, progress_callback=on_progress)
    await processor.add_work(Item("a", strategy, "text"))
    await processor.add_work(Item("b", strategy, "raise nothing"))
    await processor.process_all()
    assert database.saved == {"a": "TEXT"}
    assert capsys.readouterr().out == "Progress: 1/2 - a\nProgress: 2/2 - b\n"
