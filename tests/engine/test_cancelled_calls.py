"""Cancellations from inside a call: the item fails, and its worker continues."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from batch_llm import BaseMiddleware, CallCancelled, ProcessingEvent, WorkItemResult
from tests.support.scripted_strategies import ByItself, Item, Notes, Scripted, config, failure, items, process

pytestmark = pytest.mark.looptime


async def test_a_strategy_that_raises_cancelled_error_is_an_item_failure() -> None:
    classifier = ByItself()
    work = [Item("bad", Scripted([[1.0, asyncio.CancelledError()]])), *items(3, Scripted([[2.0]]))]
    batch = await process(work, error_classifier=classifier)
    assert [each.success for each in batch.results] == [False, True, True, True]
    assert [type(error) for error in classifier.seen] == [CallCancelled]


def cancel_this_task() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()


@pytest.mark.parametrize("where", ["prepare", "execute", "execute, in other words", "dry run"])
async def test_a_call_that_cancels_its_own_task_is_an_item_failure(where: str) -> None:
    """The worker continues with the next item, and an exception in a hook is still contained."""

    class CancelsItself(Scripted):
        async def prepare(self) -> None:
            if where == "prepare":
                await self.cancel()

        async def execute(self, prompt: str, attempt: int, timeout: float) -> tuple[str, dict[str, int]]:
            try:
                return await self.cancel()
            except asyncio.CancelledError as error:
                if where == "execute":
                    raise
                raise failure(retryable=False) from error

        async def dry_run(self, prompt: str) -> str:
            return await self.cancel()

        async def cancel(self) -> Any:
            cancel_this_task()
            await asyncio.sleep(1)

    async def post(result: WorkItemResult[str, Any]) -> None:
        raise OSError("disk full")

    work = [Item("bad", CancelsItself()), *items(2, Scripted([[2.0]]))]
    settings = config(1, dry_run=where == "dry run")
    async with asyncio.timeout(100):
        batch = await process(work, settings, post_processor=post)
    assert [each.success for each in batch.results] == [False, True, True]
    expected = "server_error" if "words" in where else "CallCancelled"
    assert batch.results[0].error_info is not None
    assert batch.results[0].error_info.category == expected


@pytest.mark.parametrize("raised", ["prepare", "dry_run"])
async def test_cancelled_error_in_prepare_or_dry_run_is_an_item_failure(raised: str) -> None:
    class Odd(Scripted):
        async def prepare(self) -> None:
            raise asyncio.CancelledError

        def dry_run(self, prompt: str) -> str:
            raise asyncio.CancelledError

    batch = await process([Item("bad", Odd()), *items(2, Scripted())], config(dry_run=raised == "dry_run"))
    assert [each.success for each in batch.results] == [False, True, True]
    assert str(batch.results[0].error).startswith("CallCancelled")


@pytest.mark.parametrize("arrives", [True, False])
@pytest.mark.parametrize("hook", ["middleware", "post_processor", "progress_callback", "cleanup"])
async def test_hook_that_cancels_its_own_task_counts_as_one_that_raised(hook: str, arrives: bool) -> None:
    """Whether the cancellation arrives in the hook or after it, no worker ends and no item fails."""

    class CancelsItself(BaseMiddleware):
        async def before_process(self, work_item: Item) -> Item | None:
            await self.cancel()
            return work_item

        async def cancel(self, *_: object) -> Any:
            cancel_this_task()
            if arrives:
                await asyncio.sleep(1)

    class Strategy(Scripted):
        async def cleanup(self) -> None:
            await super().cleanup()
            if hook == "cleanup":
                await CancelsItself().cancel()

    used: dict[str, Any] = {}
    if hook == "middleware":
        used = {"middlewares": [CancelsItself()]}
    elif hook != "cleanup":
        used = {hook: CancelsItself().cancel}
    strategies = [Strategy() for _ in range(3)]
    async with asyncio.timeout(100):
        batch = await process([Item(str(k), each) for k, each in enumerate(strategies)], config(1), **used)
    assert batch.succeeded == 3
    assert [len(each.cleaned) for each in strategies] == [1, 1, 1]


async def test_strategy_that_cancels_its_task_and_returns_fails_only_its_item() -> None:
    class Sly(Scripted):
        async def execute(self, prompt: str, attempt: int, timeout: float) -> tuple[str, dict[str, int]]:
            cancel_this_task()
            return await super().execute(prompt, attempt, timeout)

    async def post(result: WorkItemResult[str, Any]) -> None:
        await asyncio.sleep(0)

    batch = await process(
        [Item("sly", Sly()), *items(3, Scripted([[1.0]]))], config(1), post_processor=post, progress_callback=None
    )
    assert [each.success for each in batch.results] == [False, True, True, True]
    assert str(batch.results[0].error).startswith("CallCancelled")


@pytest.mark.parametrize("nested", [False, True])
async def test_items_of_workers_that_a_bug_ends_are_reported_as_cancelled(nested: bool) -> None:
    """Whether the call waits itself or for a task, through which the cancellation arrives later."""

    class Buggy(Scripted):
        async def execute(self, prompt: str, attempt: int, timeout: float) -> tuple[str, dict[str, int]]:
            await asyncio.sleep(1)
            raise GeneratorExit

    class Nested(Scripted):
        async def execute(self, prompt: str, attempt: int, timeout: float) -> tuple[str, dict[str, int]]:
            return await asyncio.ensure_future(super().execute(prompt, attempt, timeout))

    notes, busy = Notes(), Nested([[10.0]]) if nested else Scripted([[10.0]])
    with pytest.raises(BaseExceptionGroup):
        await process([Item("busy", busy), Item("bug", Buggy())], observers=[notes])
    assert [(data["item_id"], data["category"]) for data in notes.of(ProcessingEvent.ITEM_FAILED)] == [
        ("busy", "cancelled")
    ]
