"""Runs that end through a bug or a cancellation: the cause is raised, and a cancellation stays one."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
from typing import Any

import pytest

from batch_llm import BaseMiddleware, LLMCallStrategy, WorkItemResult
from tests.support.scripted_strategies import Item, Scripted, config, items, now, process, processor

pytestmark = pytest.mark.looptime


class Breaks(LLMCallStrategy[str]):
    async def execute(self, prompt: str, attempt: int, timeout: float) -> tuple[str, dict[str, int]]:
        raise GeneratorExit  # what no item may fail with


async def test_broken_run_raises_the_cause_and_keeps_finished_results() -> None:
    async with processor(config(1, queue=1)) as engine:
        for item in [Item("good", Scripted()), Item("bad", Breaks())]:
            await engine.add_work(item)
        await engine.add_work(Item("next", Scripted()))
        await asyncio.sleep(1)
        with pytest.raises(RuntimeError, match="failed before item 'late'") as caught:
            await engine.add_work(Item("late", Scripted()))
        assert isinstance(caught.value.__cause__, BaseExceptionGroup)
        with pytest.raises(BaseExceptionGroup):
            await engine.process_all()
        assert [each.item_id for each in engine.results_so_far().results] == ["good"]
        await engine.add_work(Item("late", Scripted()))
        assert (await engine.process_all()).succeeded == 1


async def test_leaving_the_context_of_a_broken_run_raises_the_cause() -> None:
    async def leave() -> None:
        async with processor(config(1, queue=1)) as engine:
            for item in [Item("bad", Breaks()), Item("next", Scripted())]:
                await engine.add_work(item)
            await asyncio.sleep(1)

    with pytest.raises(BaseExceptionGroup):
        await leave()


@pytest.mark.parametrize("how", ["wait_for", "timeout", "cancel"])
@pytest.mark.parametrize("hook", ["before", "after", "post_processor", "progress_callback", "cleanup", "execute"])
async def test_cancellation_is_raised_even_if_a_hook_replaces_it(hook: str, how: str) -> None:
    class Interrupted(Scripted, BaseMiddleware):
        async def turn_it_into_something_else(self, *_: object) -> None:
            try:
                await asyncio.sleep(10)
            except asyncio.CancelledError:
                raise RuntimeError("save interrupted") from None

        async def before_process(self, work_item: Item) -> Item | None:
            if hook == "before":
                await self.turn_it_into_something_else()
            return work_item

        async def after_process(self, work_item: Item, result: WorkItemResult[str, Any]) -> WorkItemResult[str, Any]:
            if hook == "after":
                await self.turn_it_into_something_else()
            return result

        async def execute(self, prompt: str, attempt: int, timeout: float) -> tuple[str, dict[str, int]]:
            if hook == "execute":
                await self.turn_it_into_something_else()
            return await super().execute(prompt, attempt, timeout)

        async def cleanup(self) -> None:
            if hook == "cleanup":
                await self.turn_it_into_something_else()

    odd = Interrupted()
    used: dict[str, Any] = {hook: odd.turn_it_into_something_else} if hook.startswith("p") else {}
    engine = processor(middlewares=[odd], **used)
    await engine.add_work(Item("a", odd))
    run = asyncio.create_task(engine.process_all())
    if how == "cancel":
        await asyncio.sleep(1)
        run.cancel()
        await asyncio.wait([run])
        assert run.cancelled()
    elif how == "wait_for":
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(run, 1)
    else:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await run
    assert now() == 1


@pytest.mark.parametrize(
    "raised", [StopIteration, StopAsyncIteration, GeneratorExit, type("Panic", (BaseException,), {})]
)
async def test_run_continues_whatever_a_plain_callback_raises(raised: type[BaseException]) -> None:
    def post(result: WorkItemResult[str, Any]) -> None:
        raise raised

    def report(completed: int, total: int, item_id: str) -> None:
        raise raised

    async with asyncio.timeout(100):
        batch = await process(items(5, Scripted()), config(2), post_processor=post, progress_callback=report)
    assert batch.succeeded == 5


@pytest.mark.parametrize("way", ["directly", "gather", "wait_for", "thread", "task"])
@pytest.mark.parametrize("workers", [1, 2])
async def test_hook_can_add_work_to_a_full_queue_in_any_way(way: str, workers: int) -> None:
    strategy, loop = Scripted(), asyncio.get_running_loop()

    def follow_ups(result: WorkItemResult[str, Any]) -> list[Item]:
        return [Item(f"{result.item_id}-{k}", strategy) for k in range(3) if "-" not in result.item_id]

    async def post(result: WorkItemResult[str, Any]) -> None:
        adding = [engine.add_work(item) for item in follow_ups(result)]
        if way == "gather":
            await asyncio.gather(*adding)
        for each in adding if way != "gather" else []:
            if way == "wait_for":
                await asyncio.wait_for(each, 10)
            else:
                await (asyncio.create_task(each) if way == "task" else each)

    def in_thread(result: WorkItemResult[str, Any]) -> None:
        for item in follow_ups(result):
            asyncio.run_coroutine_threadsafe(engine.add_work(item), loop).result(10)

    post_processor = in_thread if way == "thread" else post
    async with asyncio.timeout(100), processor(config(workers, queue=1), post_processor=post_processor) as engine:
        for number in range(4):
            await engine.add_work(Item(f"i{number}", strategy))
        assert (await engine.process_all()).total_items == 16


async def test_slow_hook_is_logged_after_a_minute_and_each_time_that_doubles(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def post(result: WorkItemResult[str, Any]) -> None:
        await asyncio.sleep(500)

    await process([Item("slow", Scripted())], post_processor=post)
    named = [record.getMessage() for record in caplog.records if "hook_timeout" in record.getMessage()]
    assert [f"on item slow for {seconds} s" in line for seconds, line in zip((60, 120, 240, 480), named, strict=True)]
    assert now() == 500


@pytest.mark.parametrize("hook", ["before", "after", "post_processor", "progress_callback"])
async def test_hook_timeout_bounds_a_hook_that_never_returns(hook: str) -> None:
    class Hangs(BaseMiddleware):
        async def hang(self, *_: object) -> Any:
            await asyncio.Event().wait()

    odd = Hangs()
    if hook in ("before", "after"):
        setattr(odd, f"{hook}_process", odd.hang)
    used: dict[str, Any] = {hook: odd.hang} if hook.startswith("p") else {"middlewares": [odd]}
    settings = config(1)
    settings.hook_timeout = 7.0
    batch = await process(items(2, Scripted()), settings, **used)
    assert batch.succeeded == 2
    assert now() == 14


async def test_prepare_is_bounded_by_timeout_per_item() -> None:
    class Hangs(Scripted):
        async def prepare(self) -> None:
            await super().prepare()
            if len(self.prepared) == 1:
                await asyncio.Event().wait()

    strategy = Hangs()
    batch = await process([Item("a", strategy)], config(timeout=20))
    assert batch.succeeded == 1
    assert strategy.prepared == [0, 21]


@pytest.mark.looptime(False)
def test_keyboard_interrupt_in_a_strategy_runs_all_cleanup() -> None:
    program = """
    import asyncio
    from batch_llm import *
    class Interrupts(LLMCallStrategy):
        async def prepare(self): pass
        async def execute(self, prompt, attempt, timeout): raise KeyboardInterrupt
        async def cleanup(self): print("cleaned")
    async def main():
        try:
            async with ParallelBatchProcessor(ProcessorConfig()) as p:
                await p.add_work(LLMWorkItem("a", Interrupts()))
                await p.process_all()
        finally:
            await asyncio.sleep(0.01)
            print("finished")
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        print("interrupted")
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["cleaned", "finished", "interrupted"]
    assert "pending" not in done.stderr
