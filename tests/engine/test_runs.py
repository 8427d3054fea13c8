"""Runs process each added item once and return the results in order."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest

from batch_llm import ProcessingEvent, WorkItemResult
from tests.support.scripted_strategies import (
    Item,
    Notes,
    Processor,
    Scripted,
    config,
    failure,
    items,
    process,
    processor,
)

pytestmark = pytest.mark.looptime


async def test_results_come_in_the_order_of_adding() -> None:
    slow, quick = Scripted([[10.0, "slow"]]), Scripted([["quick"]])
    result = await process([Item("a", slow), Item("b", quick), Item("c", slow)])
    assert [(each.item_id, each.output) for each in result.results] == [("a", "slow"), ("b", "quick"), ("c", "slow")]


async def test_totals_are_sums_over_all_items() -> None:
    result = await process([*items(3, Scripted()), Item("bad", Scripted([[failure(retryable=False)]]))])
    assert (result.total_items, result.succeeded, result.failed) == (4, 3, 1)
    assert (result.total_input_tokens, result.total_output_tokens) == (3, 6)


async def test_at_most_max_workers_calls_run_at_once() -> None:
    strategy = Scripted([[1.0]])
    await process(items(10, strategy), config(3))
    assert strategy.most == 3
    assert strategy.starts == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3]


def _adding_work(engine: Processor, work: list[Item]) -> Any:
    """Return a task factory that adds an item while it creates a worker, as a worker that starts eagerly can."""

    def create(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> asyncio.Task[Any]:
        if coro.__name__ == "_work" and work:  # Python 3.11 names a task after its creation
            with pytest.raises(StopIteration):  # the item is added without a wait
                engine.add_work(work.pop()).send(None)
        return asyncio.Task(coro, loop=loop, **options)

    return create


FACTORIES: list[Any] = [_adding_work]
if sys.version_info >= (3, 12):
    FACTORIES.append(lambda *_: asyncio.eager_task_factory)


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("factory", FACTORIES)
async def test_eager_tasks_are_at_most_max_workers_calls_at_once(factory: Any, workers: int) -> None:
    """A loop with an eager task factory runs a worker, which may add work, while it creates the worker."""
    strategy, notes = Scripted([[1.0, "ok"]]), Notes()
    engine = processor(config(workers), observers=[notes])
    first, more = items(8, strategy)[:5], items(8, strategy)[5:]
    asyncio.get_running_loop().set_task_factory(factory(engine, more))
    try:
        for item in first:
            await engine.add_work(item)
        batch = await engine.process_all()
    finally:
        asyncio.get_running_loop().set_task_factory(None)
    assert (batch.succeeded, strategy.most) == (len(strategy.calls), workers)
    started = [each["worker"] for each in notes.of(ProcessingEvent.WORKER_STARTED)]
    assert sorted(started) == list(range(1, workers + 1))


async def test_a_thousand_workers_are_a_thousand_calls_at_once() -> None:
    strategy = Scripted([[1.0]])
    await process(items(1000, strategy), config(1000))
    assert strategy.most == 1000


async def test_an_empty_run_ends() -> None:
    result = await process([])
    assert result.results == []


async def test_second_run_processes_the_items_added_since() -> None:
    engine, strategy = processor(), Scripted()
    first_items, second_items = items(2, strategy), [Item("later", strategy)]
    for item in first_items:
        await engine.add_work(item)
    first = await engine.process_all()
    for item in second_items:
        await engine.add_work(item)
    second = await engine.process_all()
    assert [each.item_id for each in first.results] == ["item-0", "item-1"]
    assert [each.item_id for each in second.results] == ["later"]


async def test_work_added_during_cleanup_belongs_to_the_next_run() -> None:
    class Slow(Scripted):
        async def cleanup(self) -> None:
            await asyncio.sleep(10)

    engine, strategy = processor(), Slow()
    await engine.add_work(Item("a", strategy))
    run = asyncio.create_task(engine.process_all())
    await asyncio.sleep(5)
    await engine.add_work(Item("a", strategy))
    results = [await run, await engine.process_all()]
    assert [[each.item_id for each in result.results] for result in results] == [["a"], ["a"]]


async def test_value_that_is_not_a_work_item_is_refused() -> None:
    text: Any = "summarise this"
    with pytest.raises(ValueError, match="'summarise this' is not a work item"):
        await processor().add_work(text)


async def test_duplicate_id_is_refused_with_its_name() -> None:
    engine = processor()
    await engine.add_work(Item("twin", Scripted()))
    with pytest.raises(ValueError, match="twin"):
        await engine.add_work(Item("twin", Scripted()))
    await engine.process_all()
    await engine.add_work(Item("twin", Scripted()))  # another run
    assert (await engine.process_all()).total_items == 1


async def test_work_added_while_the_run_ends_belongs_to_it() -> None:
    strategy = Scripted([[1.0]])

    async def follow_up(result: WorkItemResult[str, None]) -> None:
        if result.item_id.count("+") < 3:
            await engine.add_work(Item(result.item_id + "+", strategy))

    engine = processor(post_processor=follow_up)
    await engine.add_work(Item("a", strategy))
    result = await engine.process_all()
    assert [each.item_id for each in result.results] == ["a", "a+", "a++", "a+++"]
