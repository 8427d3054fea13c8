"""`process_stream` yields results as they finish, in bounded memory, from any source."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any

import pytest

from batch_llm import LLMCallStrategy, RunStopped, WorkItemResult
from tests.support.scripted_strategies import Failure, Item, Scripted, config, failure, items, now, processor

pytestmark = pytest.mark.looptime


async def until_stopped(
    stream: AsyncGenerator[WorkItemResult[str, Any]], category: str = "auth"
) -> list[WorkItemResult[str, Any]]:
    """Return the results of a stream that a fatal error ends."""
    results: list[WorkItemResult[str, Any]] = []

    async def consume() -> None:
        async for each in stream:
            results.append(each)  # noqa: PERF401  those before the error count

    with pytest.raises(RunStopped) as caught:
        await consume()
    assert caught.value.error_info.category == category
    assert isinstance(caught.value.__cause__, Failure)
    return results


class Source:
    """Source that counts the pulled items."""

    def __init__(self, count: int, strategy: LLMCallStrategy[str]) -> None:
        self.pulled = 0
        self.closed = False
        self._items = items(count, strategy)

    def __iter__(self) -> Iterator[Item]:
        for item in self._items:
            self.pulled += 1
            yield item

    async def slowly(self, seconds: float) -> AsyncGenerator[Item]:
        try:
            for item in self:
                await asyncio.sleep(seconds)
                yield item
        finally:
            self.closed = True


async def test_results_come_as_they_finish() -> None:
    slow, quick = Scripted([[10.0, "slow"]]), Scripted([["quick"]])
    engine = processor()
    seen = [(each.item_id, now()) async for each in engine.process_stream([Item("a", slow), Item("b", quick)])]
    assert seen == [("b", 0), ("a", 10)]


async def test_async_source_is_pulled_while_calls_run() -> None:
    strategy = Scripted([[10.0]])
    source = Source(3, strategy)
    results = [each async for each in processor().process_stream(source.slowly(1.0))]
    assert len(results) == 3
    assert strategy.starts == [1, 2, 3]
    assert source.closed


@pytest.mark.parametrize(("workers", "queue"), [(1, 0), (3, 0), (2, 5)])
async def test_pulled_items_never_exceed_workers_and_queue(workers: int, queue: int) -> None:
    source, yielded, most = Source(50, Scripted([[1.0]])), 0, 0
    async for _ in processor(config(workers, queue=queue)).process_stream(source):
        yielded += 1
        most = max(most, source.pulled - yielded)
        await asyncio.sleep(3)  # a slow consumer
        most = max(most, source.pulled - yielded)
    assert yielded == 50
    assert most <= workers + queue


async def test_all_workers_are_used() -> None:
    strategy = Scripted([[1.0]])
    async for _ in processor(config(7)).process_stream(items(70, strategy)):
        pass
    assert strategy.most == 7
    assert now() == 10


async def test_stream_accepts_duplicate_ids() -> None:
    twins = [Item("twin", Scripted()), Item("twin", Scripted())]
    assert len([each async for each in processor().process_stream(twins)]) == 2


async def test_value_that_is_not_a_work_item_is_refused_after_earlier_results() -> None:
    source: list[Any] = [Item("a", Scripted()), "text"]
    results = processor().process_stream(source)
    assert (await anext(results)).item_id == "a"
    with pytest.raises(ValueError, match="is not a work item"):
        await anext(results)


async def test_concurrent_streams_are_refused() -> None:
    engine = processor()
    async with aclosing(engine.process_stream(items(10, Scripted([[1.0]])))) as results:
        await anext(results)
        with pytest.raises(RuntimeError, match="open"):
            await anext(engine.process_stream(items(1, Scripted())))


async def test_leaving_early_cancels_and_cleans_up() -> None:
    strategy = Scripted([[1.0]])
    async with aclosing(processor(config(3)).process_stream(items(100, strategy))) as results:
        async for _ in results:
            break
    assert strategy.running == 0
    assert strategy.cleaned == [1]


async def test_leaving_early_closes_a_source_that_waits_for_room() -> None:
    source = Source(100, Scripted([[1.0]]))
    async with aclosing(processor(config(2)).process_stream(source.slowly(0.1))) as results:
        await anext(results)
        await asyncio.sleep(5)
        assert source.pulled == 3
    assert source.closed


async def test_source_that_swallows_generator_exit_is_pulled_at_most_once_more() -> None:
    pulled: list[str] = []

    async def stubborn() -> AsyncGenerator[Item]:
        for number in range(100):
            pulled.append(str(number))
            yield Item(str(number), Scripted([[1.0, failure("auth", retryable=False)]]))
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(10)

    results = await until_stopped(processor(config(5)).process_stream(stubborn()))
    assert [each.item_id for each in results] == pulled == ["0", "1"]


async def test_error_of_a_source_is_raised_after_earlier_results() -> None:
    def broken() -> Iterator[Item]:
        yield from items(2, Scripted([[1.0]]))
        raise OSError("the file is gone")

    results = processor().process_stream(broken())
    assert [(await anext(results)).item_id, (await anext(results)).item_id] == ["item-0", "item-1"]
    with pytest.raises(OSError, match="the file is gone"):
        await anext(results)


async def test_source_that_raises_cancelled_error_is_not_taken_for_exhausted() -> None:
    async def broken() -> AsyncGenerator[Item]:
        yield Item("a", Scripted())
        raise asyncio.CancelledError

    results = processor().process_stream(broken())
    assert (await anext(results)).success
    with pytest.raises(RuntimeError, match="source"):
        await anext(results)


async def test_fatal_error_stops_pulling_and_is_raised() -> None:
    source = Source(100, Scripted([[1.0, failure("auth", retryable=False)]]))
    engine = processor(config(2, queue=3))
    results = await until_stopped(engine.process_stream(source))
    assert engine.stopped_by is not None
    assert engine.stopped_by.category == "auth"
    assert len(results) == source.pulled == 5
    categories = sorted(each.error_info.category for each in results if each.error_info)
    assert categories == ["auth"] * 2 + ["not_attempted"] * 3


async def test_a_fatal_error_does_not_wait_for_a_slow_source() -> None:
    source = Source(100, Scripted([[1.0, failure("quota_exhausted", retryable=False)]]))
    results = await until_stopped(processor().process_stream(source.slowly(1000.0)), "quota_exhausted")
    assert len(results) == 1
    assert now() == 1001
    assert source.closed


async def test_source_that_raises_when_closed_does_not_hide_the_fatal_error() -> None:
    async def upset() -> AsyncGenerator[Item]:
        yield Item("a", Scripted([[1.0, failure("auth", retryable=False)]]))
        try:
            await asyncio.sleep(10_000)
        except asyncio.CancelledError:
            raise OSError("interrupted") from None

    assert len(await until_stopped(processor().process_stream(upset()))) == 1


async def test_stopped_stream_ends_without_an_error() -> None:
    engine = processor(config(1))
    seen: list[str] = []
    async for each in engine.process_stream(items(10, Scripted([[1.0]]))):
        seen.append(each.item_id)
        engine.stop()
    assert seen[0] == "item-0"
    assert engine.stopped_by is not None
    assert engine.stopped_by.category == "stopped"


async def test_stream_is_refused_if_work_was_added() -> None:
    engine = processor()
    await engine.add_work(Item("a", Scripted()))
    with pytest.raises(RuntimeError, match="process_all"):
        await anext(engine.process_stream([]))
    await engine.process_all()
    async with aclosing(engine.process_stream(items(10, Scripted([[1.0]])))) as results:
        await anext(results)
        with pytest.raises(RuntimeError, match="process_stream"):
            await engine.add_work(Item("b", Scripted()))


def test_memory_is_flat_over_a_long_stream() -> None:
    """Measured in a separate process, because memory that other tests left in this one would count."""
    command = [sys.executable, "-m", "tests.support.stream_memory"]
    root = Path(__file__).parents[2]
    grown = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True, timeout=120).stdout
    assert int(grown) < 100_000  # bytes; the items alone are 20 MB
