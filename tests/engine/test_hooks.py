"""Middleware and callbacks: their arguments, and that they cannot break a run."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import Awaitable
from contextvars import ContextVar
from typing import Any

import pytest

from batch_llm import BaseMiddleware, ProcessingEvent, WorkItemResult
from batch_llm import middleware as public
from tests.support.scripted_strategies import Item, Notes, Scripted, config, failure, items, process

pytestmark = pytest.mark.looptime

Result = WorkItemResult[str, Any]
request: ContextVar[str] = ContextVar("request")


class Diary(BaseMiddleware):
    """Middleware that records which of its hooks was called."""

    def __init__(self, name: str, diary: list[str]) -> None:
        self.name, self.diary = name, diary

    async def before_process(self, work_item: Item) -> Item | None:
        self.diary.append(f"before {self.name}")
        return work_item

    async def after_process(self, work_item: Item, result: Result) -> Result:
        self.diary.append(f"after {self.name}")
        return result

    async def on_error(self, work_item: Item, error: Exception) -> None:
        self.diary.append(f"error {self.name}")


def test_the_middleware_module_is_public() -> None:
    assert public.BaseMiddleware is BaseMiddleware


async def test_middleware_runs_in_order_before_and_in_reverse_after_each_item() -> None:
    diary: list[str] = []
    await process([Item("a", Scripted([[failure()], ["ok"]]))], middlewares=[Diary("1", diary), Diary("2", diary)])
    assert diary == ["before 1", "before 2", "after 2", "after 1"]


async def test_after_a_failure_on_error_runs_before_after_process() -> None:
    diary: list[str] = []
    work = [Item("a", Scripted([[failure(retryable=False)]]))]
    await process(work, middlewares=[Diary("1", diary), Diary("2", diary)])
    assert diary == ["before 1", "before 2", "error 2", "error 1", "after 2", "after 1"]


async def test_none_from_before_process_skips_the_item_without_a_call() -> None:
    class Skip(BaseMiddleware):
        async def before_process(self, work_item: Item) -> Item | None:
            return None if work_item.item_id == "item-1" else work_item

    strategy, notes = Scripted(), Notes()
    batch = await process(items(3, strategy), middlewares=[Skip()], observers=[notes])
    skipped = batch.results[1]
    assert (skipped.success, skipped.error) == (False, "Skipped by middleware")
    assert skipped.error_info is not None
    assert skipped.error_info.category == "skipped"
    assert len(strategy.calls) == 2
    assert [data["item_id"] for data in notes.of(ProcessingEvent.ITEM_FAILED)] == ["item-1"]


async def test_replacement_item_keeps_the_id_and_replaces_everything_else() -> None:
    other = Scripted([["from the other"]])

    class Replace(BaseMiddleware):
        async def before_process(self, work_item: Item) -> Item | None:
            return Item("renamed", other, "changed", context="changed")

    (result,) = (await process([Item("a", Scripted())], middlewares=[Replace()])).results
    assert (result.item_id, result.output, result.context) == ("a", "from the other", "changed")
    assert other.calls[0][1] == "changed"


async def test_after_process_may_change_the_result() -> None:
    class Shout(BaseMiddleware):
        async def after_process(self, work_item: Item, result: Result) -> Result:
            return Result(work_item.item_id, True, output=str(result.output).upper(), token_usage={"input_tokens": 7})

    batch = await process([Item("a", Scripted())], middlewares=[Shout()])
    assert batch.results[0].output == "OK"
    assert batch.total_input_tokens == 7


async def test_a_changed_result_keeps_its_items_id() -> None:
    class Rename(BaseMiddleware):
        async def after_process(self, work_item: Item, result: Result) -> Result:
            return Result("renamed", True, output="ok")

    notes = Notes()
    (result,) = (await process([Item("a", Scripted())], middlewares=[Rename()], observers=[notes])).results
    assert result.item_id == "a"
    assert notes.of(ProcessingEvent.ITEM_COMPLETED)[0]["item_id"] == "a"


async def test_after_process_sees_skipped_items_and_the_item_as_it_was_processed() -> None:
    seen: list[tuple[str, str | None]] = []

    class Change(BaseMiddleware):
        async def before_process(self, work_item: Item) -> Item | None:
            return None if work_item.item_id == "item-0" else Item("b", work_item.strategy, "changed")

        async def after_process(self, work_item: Item, result: Result) -> Result:
            seen.append((work_item.prompt, result.error))
            return result

    await process(items(2, Scripted()), config(1), middlewares=[Change()])
    assert seen == [("prompt 0", "Skipped by middleware"), ("changed", None)]


@pytest.mark.parametrize("broken", [RuntimeError("hook"), asyncio.CancelledError(), "nonsense"])
async def test_a_hook_that_raises_is_logged_and_the_item_goes_on(broken: Any, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(BaseMiddleware):
        async def before_process(self, work_item: Item) -> Item | None:
            return self.fail()

        async def after_process(self, work_item: Item, result: Result) -> Result:
            return self.fail()

        async def on_error(self, work_item: Item, error: Exception) -> None:
            self.fail()

        def fail(self) -> Any:
            if isinstance(broken, BaseException):
                raise broken
            return broken

    diary: list[str] = []
    work = [Item("good", Scripted()), Item("bad", Scripted([[failure(retryable=False)]]))]
    batch = await process(work, config(1), middlewares=[Broken(), Diary("1", diary)])
    assert [each.success for each in batch.results] == [True, False]
    assert diary == ["before 1", "after 1", "before 1", "error 1", "after 1"]
    assert re.search("Broken.before_process on item good.*; the item continues", caplog.text)


async def test_post_processor_gets_every_item_and_its_exception_changes_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    seen: list[tuple[str, bool]] = []

    async def post(result: Result) -> None:
        seen.append((result.item_id, result.success))
        raise OSError("disk full")

    batch = await process(
        [Item("a", Scripted()), Item("b", Scripted([[failure(retryable=False)]]))], post_processor=post
    )
    assert seen == [("a", True), ("b", False)]
    assert batch.succeeded == 1
    assert "disk full" in caplog.text


async def test_a_plain_post_processor_runs_in_a_thread_as_many_at_once_as_workers() -> None:
    together = threading.Barrier(40, timeout=10)
    threads: set[int] = set()

    def post(result: Result) -> None:
        threads.add(threading.get_ident())
        together.wait()  # passes only when 40 of them are here

    batch = await process(items(40, Scripted()), config(40), post_processor=post)
    assert batch.succeeded == 40
    assert not together.broken
    assert len(threads) == 40
    assert threading.get_ident() not in threads


async def test_a_plain_callback_sees_the_context_of_its_caller() -> None:
    seen: list[str] = []

    def post(result: Result) -> None:
        seen.append(request.get())

    request.set("batch 7")
    await process(items(1, Scripted()), post_processor=post)
    assert seen == ["batch 7"]


async def test_a_plain_callback_does_not_block_the_loop() -> None:
    loop, answered, outcomes = asyncio.get_running_loop(), threading.Event(), list[bool]()

    def post(result: Result) -> None:
        loop.call_soon_threadsafe(answered.set)
        outcomes.append(answered.wait(10))

    await process(items(1, Scripted()), post_processor=post)
    assert outcomes == [True]


async def test_a_callable_that_returns_an_awaitable_is_awaited() -> None:
    seen: list[str] = []

    async def save(result: Result) -> None:
        seen.append(result.item_id)

    def post(result: Result) -> Awaitable[None]:
        return save(result)

    await process([Item("a", Scripted())], post_processor=post)
    assert seen == ["a"]


async def test_progress_is_reported_in_order_up_to_the_last_item() -> None:
    seen: list[tuple[int, int, str]] = []

    def report(completed: int, total: int, item_id: str) -> None:
        time.sleep(0.001 if completed % 2 else 0)
        seen.append((completed, total, item_id))

    await process(items(30, Scripted([[1.0]])), config(10), progress_callback=report)
    assert [counts for *counts, _ in seen] == [[number, 30] for number in range(1, 31)]
    assert {item_id for *_, item_id in seen} == {f"item-{number}" for number in range(30)}


async def test_progress_is_in_order_although_post_processors_overtake_each_other() -> None:
    seen: list[tuple[int, str]] = []

    async def post(result: Result) -> None:
        await asyncio.sleep({"item-0": 10, "item-1": 1, "item-2": 2}[result.item_id])

    async def report(completed: int, total: int, item_id: str) -> None:
        seen.append((completed, item_id))

    await process(items(3, Scripted()), post_processor=post, progress_callback=report)
    assert seen == [(1, "item-1"), (2, "item-2"), (3, "item-0")]


async def test_progress_callback_that_raises_changes_nothing() -> None:
    async def report(completed: int, total: int, item_id: str) -> None:
        raise ValueError

    assert (await process(items(3, Scripted()), progress_callback=report)).succeeded == 3


async def test_progress_is_logged_at_its_interval(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="batch_llm")
    settings = config()
    settings.progress_interval = 4
    await process(items(10, Scripted()), settings)
    assert [record.getMessage() for record in caplog.records] == [
        "4 of 10 items done, 0 failed",
        "8 of 10 items done, 0 failed",
        "The run completed: 10 of 10 items done, 0 failed",
    ]


async def test_detailed_logging_includes_every_attempt(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", logger="batch_llm")
    settings = config()
    settings.enable_detailed_logging = True
    await process([Item("a", Scripted([[failure()], ["ok"]]))], settings)
    debugged = [record.getMessage() for record in caplog.records if record.levelname == "DEBUG"]
    assert debugged == ["Item a, attempt 1: Failure: boom", "Item a, attempt 2: answered"]


class Rehearsed(Scripted):
    def dry_run(self, prompt: str) -> str:
        return f"would send {prompt}"


async def test_dry_run_makes_no_call_and_publishes_the_same_events() -> None:
    notes, diary, strategy, plain = Notes(), list[str](), Rehearsed(), Scripted()
    work = [Item("a", strategy, "text"), Item("b", plain)]
    batch = await process(work, config(dry_run=True), observers=[notes], middlewares=[Diary("1", diary)])
    assert [each.output for each in batch.results] == ["would send text", "dry run of item b"]
    assert batch.results[0].token_usage == {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}
    assert batch.results[0].attempts == 0  # for there was no call
    assert strategy.calls == strategy.prepared == strategy.cleaned == plain.calls == []
    assert len(notes.of(ProcessingEvent.ITEM_COMPLETED)) == len(notes.of(ProcessingEvent.ITEM_STARTED)) == 2
    assert diary.count("before 1") == diary.count("after 1") == 2


async def test_a_dry_run_that_raises_is_an_item_failure() -> None:
    class Broken(Scripted):
        def dry_run(self, prompt: str) -> str:
            raise failure(retryable=False)

    assert (await process([Item("a", Broken())], config(dry_run=True))).failed == 1
