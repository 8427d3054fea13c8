"""`prepare` once and `cleanup` once, per strategy instance and run."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest

from batch_llm import LLMCallStrategy
from tests.support.scripted_strategies import Item, Scripted, config, failure, items, now, process, processor

pytestmark = pytest.mark.looptime


class Shared(Scripted):
    """Strategy that takes 3 seconds to prepare and fails the first `failures` times."""

    def __init__(self, failures: int = 0) -> None:
        super().__init__()
        self.failures = failures

    async def prepare(self) -> None:
        await asyncio.sleep(3)
        await super().prepare()
        if len(self.prepared) <= self.failures:
            raise failure()


async def test_strategy_is_prepared_once_for_many_items_and_cleaned_up_at_the_end() -> None:
    strategy = Shared()
    await process(items(20, strategy), config(20))
    assert strategy.prepared == [3]
    assert strategy.starts == [3] * 20
    assert strategy.cleaned == [3]


async def test_strategy_is_prepared_again_for_the_next_run() -> None:
    strategy, engine = Shared(), processor()
    for number in range(2):
        await engine.add_work(Item(str(number), strategy))
        await engine.process_all()
    assert len(strategy.prepared) == len(strategy.cleaned) == 2


async def test_a_failed_prepare_fails_the_attempt_and_the_next_attempt_tries_again() -> None:
    strategy = Shared(failures=2)
    (result,) = (await process([Item("a", strategy)])).results
    assert strategy.prepared == [3, 7, 12]
    assert result.success
    assert result.attempts == 3
    assert strategy.cleaned == [12]


async def test_cleanup_is_not_called_without_a_successful_prepare() -> None:
    strategy = Shared(failures=100)
    (result,) = (await process([Item("a", strategy)])).results
    assert not result.success
    assert strategy.calls == []
    assert strategy.cleaned == []


async def test_cleanup_is_not_called_if_prepare_was_cancelled() -> None:
    strategy, engine = Shared(), processor()
    await engine.add_work(Item("a", strategy))
    run = asyncio.create_task(engine.process_all())
    await asyncio.sleep(1)
    run.cancel()
    await asyncio.wait([run])
    assert strategy.prepared == strategy.cleaned == []


async def test_equal_instances_are_prepared_separately() -> None:
    class Twin(Scripted):
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = None  # pyright: ignore[reportAssignmentType]  as a plain dataclass has it

    twins = [Twin(), Twin()]
    await process([Item(str(number), twin) for number, twin in enumerate(twins)])
    assert [len(twin.prepared) for twin in twins] == [1, 1]
    assert [len(twin.cleaned) for twin in twins] == [1, 1]


async def test_each_item_with_its_own_strategy_prepares_it() -> None:
    """An `id()` that Python reuses for another object must not count as prepared."""
    prepared = 0

    class Own(Scripted):
        async def prepare(self) -> None:
            nonlocal prepared
            prepared += 1

    source = (Item(str(number), Own()) for number in range(500))
    async for _ in processor(config(2)).process_stream(source):
        pass
    assert prepared == 500


async def test_strategies_without_prepare_or_cleanup_are_not_kept_in_memory() -> None:
    class Plain(LLMCallStrategy[str]):
        async def execute(self, prompt: str, attempt: int, timeout: float) -> tuple[str, dict[str, int]]:
            return "ok", {}

    alive: weakref.WeakSet[Plain] = weakref.WeakSet()

    def source():
        for number in range(500):
            alive.add(strategy := Plain())
            yield Item(str(number), strategy)

    async for _ in processor(config(2)).process_stream(source()):
        gc.collect(0)
        assert len(alive) < 20


class Broken(Scripted):
    error: BaseException = OSError("still there")

    async def cleanup(self) -> None:
        raise self.error


@pytest.mark.parametrize("error", [OSError("still there"), asyncio.CancelledError()])
async def test_a_failing_cleanup_is_logged_and_the_others_go_on(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    good, broken = [Scripted(), Scripted()], Broken()
    broken.error = error
    batch = await process([Item("first", good[0]), Item("broken", broken), Item("last", good[1])])
    assert batch.succeeded == 3
    assert [len(each.cleaned) for each in good] == [1, 1]
    assert "The cleanup of Broken failed" in caplog.text


async def test_cancellation_cleans_up_every_strategy_whatever_one_of_them_raises() -> None:
    engine, good = processor(), [Scripted([[100.0]]), Scripted([[100.0]])]
    for name, strategy in (("first", good[0]), ("broken", Broken([[100.0]])), ("last", good[1])):
        await engine.add_work(Item(name, strategy))
    run = asyncio.create_task(engine.process_all())
    await asyncio.sleep(1)
    run.cancel()
    await asyncio.wait([run])
    assert [each.cleaned for each in good] == [[1], [1]]


async def test_second_cancellation_ends_the_cleanup() -> None:
    """A second cancellation does not wait for hanging strategies, however many there are."""

    class Hanging(Scripted):
        async def cleanup(self) -> None:
            await asyncio.sleep(50)

    engine = processor(config(30))
    for number in range(30):
        await engine.add_work(Item(str(number), Hanging([[100.0]])))
    run = asyncio.create_task(engine.process_all())
    for _ in range(2):
        await asyncio.sleep(1)
        run.cancel()
    await asyncio.wait([run])
    assert now() == 2


async def test_strategies_with_only_prepare_or_only_cleanup_are_supported() -> None:
    done: list[str] = []

    class Answers(LLMCallStrategy[str]):
        async def execute(self, prompt: str, attempt: int, timeout: float) -> tuple[str, dict[str, int]]:
            return "ok", {}

    class Cleans(Answers):
        async def cleanup(self) -> None:
            done.append("cleaned up")

    class Prepares(Answers):
        async def prepare(self) -> None:
            done.append("prepared")

    cleans, prepares = Cleans(), Prepares()
    await process([Item("a", cleans), Item("b", cleans), Item("c", prepares), Item("d", prepares)])
    assert done == ["prepared", "cleaned up"]


async def test_strategies_are_cleaned_up_concurrently() -> None:
    class Slow(Scripted):
        async def cleanup(self) -> None:
            await asyncio.sleep(1)
            await super().cleanup()

    slow = [Slow() for _ in range(30)]
    await process([Item(str(number), strategy) for number, strategy in enumerate(slow)], config(1))
    assert [each.cleaned for each in slow] == [[3]] * 10 + [[2]] * 10 + [[1]] * 10  # the last first


async def test_hanging_cleanup_is_abandoned_after_a_minute() -> None:
    class Hanging(Scripted):
        async def cleanup(self) -> None:
            await asyncio.Event().wait()

    assert (await process([Item("a", Hanging())])).succeeded == 1
    assert now() == 60


async def test_strategy_of_a_replacement_item_is_prepared_instead() -> None:
    from batch_llm import BaseMiddleware
    from tests.support.scripted_strategies import Scripted as Other

    planned, real = Scripted(), Other()

    class Swap(BaseMiddleware):
        async def before_process(self, work_item: Item) -> Item:
            return Item(work_item.item_id, real)

    await process([Item("a", planned)], middlewares=[Swap()])
    assert (planned.prepared, planned.calls) == ([], [])
    assert len(real.prepared) == len(real.calls) == len(real.cleaned) == 1
