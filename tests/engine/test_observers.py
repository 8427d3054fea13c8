"""Events that observers receive, and that observers never slow or break a run."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from batch_llm import BaseObserver, LLMCallStrategy, MetricsObserver, ProcessingEvent, WorkItemResult
from tests.support.scripted_strategies import Item, Notes, Processor, Scripted, config, failure, items, now, process

pytestmark = pytest.mark.looptime

EVENT = ProcessingEvent


async def test_events_of_a_run_are_in_order() -> None:
    notes = Notes()
    await process([Item("a", Scripted([[1.0]]))], observers=[notes])
    assert notes.events == [
        (EVENT.PROCESSING_STARTED, {"total": 1, "max_workers": 5}),
        (EVENT.WORKER_STARTED, {"worker": 1}),
        (EVENT.ITEM_STARTED, {"item_id": "a"}),
        (
            EVENT.ITEM_COMPLETED,
            {
                "item_id": "a",
                "duration": 1,
                "attempts": 1,
                "tokens": {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3},
            },
        ),
        (EVENT.WORKER_STOPPED, {"worker": 1}),
        (
            EVENT.PROCESSING_COMPLETED,
            {
                "total": 1,
                "succeeded": 1,
                "failed": 0,
                "input_tokens": 1,
                "output_tokens": 2,
                "duration": 1,
                "stopped_by": None,
                "cancelled": False,
            },
        ),
    ]


async def test_event_of_a_failed_item_has_error_and_category() -> None:
    notes = Notes()
    await process([Item("a", Scripted([[failure("invalid_request", retryable=False)]]))], observers=[notes])
    (data,) = notes.of(EVENT.ITEM_FAILED)
    assert (data["error"], data["category"], data["attempts"]) == ("Failure: boom", "invalid_request", 1)


async def test_every_observer_gets_its_own_copy_of_the_data() -> None:
    class Vandal(BaseObserver):
        async def on_event(self, event: ProcessingEvent, data: dict[str, Any]) -> None:
            data.get("tokens", {}).clear()
            data.clear()

    notes = Notes()
    batch = await process([Item("a", Scripted())], observers=[Vandal(), notes])
    assert notes.of(EVENT.ITEM_COMPLETED)[0]["tokens"]["input_tokens"] == 1
    assert batch.total_input_tokens == 1


async def test_published_event_is_not_changed_by_a_post_processor() -> None:
    """Although the post-processor changes the result before the observers receive it."""

    def use_up(result: WorkItemResult[str, Any]) -> None:
        result.token_usage.clear()

    notes = Notes()
    await process([Item("a", Scripted())], observers=[notes], post_processor=use_up)
    async with Processor(config(), observers=[notes]) as processor:
        async for result in processor.process_stream([Item("b", Scripted())]):
            use_up(result)
    assert [each["tokens"]["input_tokens"] for each in notes.of(EVENT.ITEM_COMPLETED)] == [1, 1]


@pytest.mark.parametrize("error", [RuntimeError("observer"), asyncio.CancelledError(), TimeoutError()])
async def test_observer_that_raises_is_logged_and_gets_further_events(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Notes):
        async def on_event(self, event: ProcessingEvent, data: dict[str, Any]) -> None:
            await super().on_event(event, data)
            raise error

    broken = Broken()
    assert (await process(items(2, Scripted()), observers=[broken])).succeeded == 2
    assert broken.kinds[-1] == EVENT.PROCESSING_COMPLETED
    assert "Observer Broken raised an error on ITEM_STARTED" in caplog.text


async def test_hanging_observer_is_dropped_after_five_seconds_and_slows_no_call(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Hanging(BaseObserver):
        calls = 0

        async def on_event(self, event: ProcessingEvent, data: dict[str, Any]) -> None:
            self.calls += 1
            await asyncio.Event().wait()

    hanging, notes, strategy = Hanging(), Notes(), Scripted([[1.0]])
    await process(items(10, strategy), config(1), observers=[hanging, notes])
    assert strategy.starts == list(range(10))
    assert now() == 10
    assert hanging.calls == 1
    assert len(notes.of(EVENT.ITEM_COMPLETED)) == 10
    assert "Hanging took more than 5.0 seconds" in caplog.text


async def test_observer_keeps_up_with_strategies_that_never_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    class AtOnce(LLMCallStrategy[str]):
        async def execute(self, prompt: str, attempt: int, timeout: float) -> tuple[str, dict[str, int]]:
            return "ok", {}

    monkeypatch.setattr(
        "batch_llm.engine.event_dispatch.OBSERVER_BACKLOG", 1_000
    )  # otherwise an observer falls behind only after 100,000 events
    metrics = MetricsObserver()
    await process(items(5_000, AtOnce()), config(50), observers=[metrics])
    assert (await metrics.get_metrics())["items_succeeded"] == 5_000


async def test_slow_observer_gets_all_events_before_the_run_returns() -> None:
    class Slow(Notes):
        async def on_event(self, event: ProcessingEvent, data: dict[str, Any]) -> None:
            await asyncio.sleep(2)
            await super().on_event(event, data)

    slow = Slow()
    await process(items(3, Scripted()), observers=[slow])
    assert slow.kinds[-1] == EVENT.PROCESSING_COMPLETED
    assert len(slow.of(EVENT.ITEM_COMPLETED)) == 3


async def test_a_cancelled_item_is_counted() -> None:
    metrics, notes = MetricsObserver(), Notes()
    run = asyncio.create_task(process(items(2, Scripted([[10.0]])), observers=[metrics, notes]))
    await asyncio.sleep(3)
    run.cancel()
    await asyncio.wait([run])
    assert (await metrics.get_metrics())["errors"] == {"cancelled": 2}
    failed = sorted(notes.of(EVENT.ITEM_FAILED), key=lambda data: data["item_id"])
    assert failed[0] == {
        "item_id": "item-0",
        "duration": 3,
        "attempts": 0,
        "tokens": {},
        "error": "The run was cancelled",
        "category": "cancelled",
    }


async def test_observer_that_falls_too_far_behind_is_dropped_and_the_run_continues(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Slow(Notes):
        async def on_event(self, event: ProcessingEvent, data: dict[str, Any]) -> None:
            await super().on_event(event, data)
            await asyncio.sleep(4)

    monkeypatch.setattr("batch_llm.engine.event_dispatch.OBSERVER_BACKLOG", 10)
    slow, metrics = Slow(), MetricsObserver()
    batch = await process(items(30, Scripted([[1.0]])), config(1), observers=[slow, metrics])
    assert batch.succeeded == (await metrics.get_metrics())["items_succeeded"] == 30
    assert len(slow.events) < 30
    assert caplog.text.count("Slow is 10 events behind and is dropped") == 1
    gc.collect()  # a listener that failed says so when it is thrown away
    assert "ERROR" not in caplog.text
