"""A bounded queue of any size never deadlocks."""

from __future__ import annotations

import asyncio

import pytest

from batch_llm import ProcessingEvent, WorkItemResult
from tests.support.scripted_strategies import Item, Notes, Scripted, config, items, now, processor

pytestmark = pytest.mark.looptime


@pytest.mark.parametrize("size", [1, 2, 7])
async def test_a_full_queue_starts_the_workers_inside_async_with(size: int) -> None:
    strategy = Scripted([[1.0]])
    async with processor(config(2, queue=size)) as engine:
        for item in items(20, strategy):
            await engine.add_work(item)
        assert now() > 0  # it waited for room
        result = await engine.process_all()
    assert [each.item_id for each in result.results] == [f"item-{number}" for number in range(20)]
    assert strategy.most == 2
    assert now() == 10


@pytest.mark.parametrize("left", [False, True])
async def test_full_queue_outside_async_with_is_an_error(left: bool) -> None:
    engine = processor(config(queue=2))
    if left:  # what was entered once is outside again
        async with engine:
            pass
    first, second, third = items(3, Scripted())
    await engine.add_work(first)
    await engine.add_work(second)
    with pytest.raises(RuntimeError, match="async with"):
        await engine.add_work(third)
    assert (await engine.process_all()).total_items == 2


async def test_a_queue_smaller_than_max_workers_does_not_cap_them() -> None:
    strategy = Scripted([[1.0]])
    async with processor(config(10, queue=1)) as engine:
        for item in items(30, strategy):
            await engine.add_work(item)
        await engine.process_all()
    assert strategy.most == 10


async def test_a_hook_may_add_work_to_a_full_queue() -> None:
    """The hook's own worker may be the only one to make room, so it does not wait."""
    strategy = Scripted([[1.0]])

    async def follow_up(result: WorkItemResult[str, None]) -> None:
        if "+" not in result.item_id:
            await engine.add_work(Item(result.item_id + "+", strategy))
            await engine.add_work(Item(result.item_id + "++", strategy))

    async with processor(config(1, queue=1), post_processor=follow_up) as engine:
        for item in items(4, strategy):
            await engine.add_work(item)
        result = await engine.process_all()
    assert result.total_items == 12


async def test_work_that_waits_for_room_keeps_the_run_open() -> None:
    strategy = Scripted([[1.0]])
    async with processor(config(1, queue=1)) as engine:

        async def produce() -> None:
            for item in items(5, strategy):
                await engine.add_work(item)

        producer = asyncio.create_task(produce())
        await asyncio.sleep(0.5)  # one in flight, one in the queue, one waiting for room
        result = await engine.process_all()
        await producer
    assert result.total_items == 5


async def test_run_does_not_end_before_waiting_work_enters_the_queue() -> None:
    slow, quick = Scripted([[1.0]]), Scripted()
    async with processor(config(1, queue=1)) as engine:

        async def produce() -> None:
            for item in [Item("first", slow), *items(3, quick)]:
                await engine.add_work(item)

        producer = asyncio.create_task(produce())
        await asyncio.sleep(0.5)
        result = await engine.process_all()
        await producer
        rest = await engine.process_all()
    assert [each.item_id for each in (*result.results, *rest.results)] == ["first", "item-0", "item-1", "item-2"]
    assert len(result.results) >= 3  # what waited for room when process_all was called belongs to it


async def test_wake_up_of_a_cancelled_waiter_is_passed_to_the_next() -> None:
    waiters: list[asyncio.Task[None]] = []

    class CancelsTheFirst(Scripted):
        async def execute(self, prompt: str, attempt: int, timeout: float) -> tuple[str, dict[str, int]]:
            waiters[0].cancel()  # it was woken a moment ago, for this item has just made room
            return "ok", {}

    async with processor(config(1, queue=1)) as engine:
        for item in [Item("first", Scripted([[1.0]])), Item("second", CancelsTheFirst())]:
            await engine.add_work(item)
        for name in ("third", "fourth"):
            waiters.append(asyncio.create_task(engine.add_work(Item(name, Scripted()))))
            await asyncio.sleep(0.1)
        async with asyncio.timeout(10):
            result = await engine.process_all()
    assert [each.item_id for each in result.results] == ["first", "second", "fourth"]
    assert waiters[0].cancelled()


async def test_item_can_be_added_again_after_add_work_was_cancelled() -> None:
    async with processor(config(1, queue=1)) as engine:
        await engine.add_work(Item("first", Scripted([[10.0]])))
        await engine.add_work(Item("second", Scripted()))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await engine.add_work(Item("third", Scripted()))
        await engine.add_work(Item("third", Scripted()))
        result = await engine.process_all()
    assert [each.item_id for each in result.results] == ["first", "second", "third"]


async def test_leaving_the_context_without_process_all_cancels_the_work() -> None:
    notes, strategy = Notes(), Scripted([[1.0]])
    async with processor(config(1, queue=1), observers=[notes]) as engine:
        for item in items(4, strategy):
            await engine.add_work(item)
    assert len(strategy.starts) < 4
    assert strategy.cleaned
    started = [data["item_id"] for data in notes.of(ProcessingEvent.ITEM_STARTED)]
    ended = [data["item_id"] for data in notes.of(ProcessingEvent.ITEM_COMPLETED, ProcessingEvent.ITEM_FAILED)]
    assert started == ended


async def test_cleanup_drops_waiting_items_and_can_be_called_again() -> None:
    engine, strategy = processor(), Scripted()
    for item in items(3, strategy):
        await engine.add_work(item)
    await engine.cleanup()
    await engine.cleanup()
    await engine.add_work(Item("item-0", strategy))
    result = await engine.process_all()
    assert [each.item_id for each in result.results] == ["item-0"]
    assert len(strategy.calls) == 1


async def test_process_all_raises_if_another_task_calls_cleanup() -> None:
    engine = processor()
    await engine.add_work(Item("a", Scripted([[100.0]])))
    run = asyncio.create_task(engine.process_all())
    await asyncio.sleep(1)
    await engine.cleanup()
    with pytest.raises(RuntimeError, match="cleanup"):
        await run


async def test_concurrent_runs_of_a_processor_are_refused() -> None:
    engine = processor()
    await engine.add_work(Item("a", Scripted([[10.0]])))
    run = asyncio.create_task(engine.process_all())
    await asyncio.sleep(1)
    with pytest.raises(RuntimeError, match="a run is in progress"):
        await engine.process_all()
    assert (await run).succeeded == 1


async def test_value_that_is_not_a_work_item_is_refused() -> None:
    with pytest.raises((ValueError, AttributeError)):
        await processor().add_work("text")  # pyright: ignore[reportArgumentType]  what an untyped caller may do
