"""The reference's examples that need no provider, as they stand there."""

from __future__ import annotations

import asyncio
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


class MyCustomStrategy(LLMCallStrategy[str]):
    async def execute(self, prompt: str, attempt: int, timeout: float) -> tuple[str, dict[str, int]]:
        await asyncio.sleep(1)
        if prompt == "Task 13":
            raise RuntimeError("Rate Limit" if attempt == 1 else "unlucky")
        return prompt.upper(), {"input_tokens": 2, "output_tokens": 3, "total_tokens": 5}


class MyErrorClassifier(ErrorClassifier):
    def classify(self, exception: Exception) -> ErrorInfo:
        error_str = str(exception).lower()
        if "timeout" in error_str:
            return ErrorInfo(is_retryable=True, category="timeout")
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


async def test_the_complete_example(capsys: pytest.CaptureFixture[str]) -> None:
    saved: dict[str, Any] = {}
    progress: list[tuple[int, int, str]] = []

    async def save_result(result: WorkItemResult[str, dict[str, int]]) -> None:
        if result.success:
            saved[result.item_id] = result.output

    async def on_progress(completed: int, total: int, current_item: str) -> None:
        progress.append((completed, total, current_item))

    config = ProcessorConfig(
        max_workers=10,
        timeout_per_item=60.0,
        retry=RetryConfig(max_attempts=5, initial_wait=2.0),
        progress_interval=20,
        max_queue_size=20,
    )
    metrics = MetricsObserver()
    strategy = MyCustomStrategy()
    async with ParallelBatchProcessor[None, str, dict[str, int]](
        config=config,
        post_processor=save_result,
        progress_callback=on_progress,
        error_classifier=MyErrorClassifier(),
        middlewares=[LoggingMiddleware()],
        observers=[metrics],
    ) as processor:
        for i in range(100):
            work_item = LLMWorkItem[None, str, dict[str, int]](
                item_id=f"item_{i}", strategy=strategy, prompt=f"Task {i}", context={"user_id": i}
            )
            await processor.add_work(work_item)
        result = await processor.process_all()

    assert (result.total_items, result.succeeded, result.failed) == (100, 99, 1)
    assert result.total_input_tokens + result.total_output_tokens == 99 * 5
    assert [each.context["user_id"] for each in result.results if each.context] == list(range(100))
    assert saved["item_7"] == "TASK 7"
    assert progress[-1][:2] == (100, 100)
    metrics_data = await metrics.get_metrics()
    assert metrics_data["items_processed"] == 100
    assert f"{metrics_data['success_rate']:.1%}" == "99.0%"
    assert f"{metrics_data['avg_processing_time']:.2f}s" == "1.00s"
    printed = capsys.readouterr().out
    assert "Processing item_99" in printed
    assert "Completed item_13: False" in printed
