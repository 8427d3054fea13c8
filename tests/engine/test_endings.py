"""Runs that end before all items are done: a fatal error, `stop()`, cancellation."""

from __future__ import annotations

import asyncio

import pytest

from batch_llm import LLMCallStrategy, ProcessingEvent, WorkItemResult
from tests.support.scripted_strategies import (
    Batch,
    Item,
    Notes,
    Processor,
    Scripted,
    config,
    failure,
    items,
    now,
    process,
    processor,
    rate_limit,
)

pytestmark = pytest.mark.looptime


def categories(batch: Batch) -> list[str | None]:
    return [each.error_info.category if each.error_info else None for each in batch.results]


async def started(work: list[Item], engine: Processor) -> asyncio.Task[Batch]:
    for item in work:
        await engine.add_work(item)
    return asyncio.create_task(engine.process_all())


@pytest.mark.parametrize("category", ["auth", "quota_exhausted"])
async def test_fatal_error_leaves_unstarted_items_not_attempted(category: str) -> None:
    fatal, busy = Scripted([[1.0, failure(category, retryable=False)]]), Scripted([[5.0]])
    engine = processor(config(2))
    batch = await (await started([Item("fatal", fatal), *items(50, busy)], engine))
    assert categories(batch) == [category, None] + ["not_attempted"] * 49
    assert len(busy.calls) == 1  # the one in flight ended as it would
    assert now() == 5
    assert engine.stopped_by is not None
    assert engine.stopped_by.category == category


async def test_stopped_by_is_the_first_fatal_error() -> None:
    first, second = (Scripted([[failure(name, retryable=False)]]) for name in ("auth", "quota_exhausted"))
    second.script = [[2.0, *second.script[0]]]
    engine = processor(config(2))
    await (await started([Item("second", second), Item("first", first)], engine))
    assert len(second.calls) == 1
    assert engine.stopped_by is not None
    assert engine.stopped_by.category == "auth"


async def test_not_attempted_items_are_retryable_without_attempts_or_tokens() -> None:
    batch = await process([Item("a", Scripted([[failure("auth", retryable=False)]])), *items(2, Scripted())], config(1))
    left = batch.results[1]
    assert left.error_info is not None
    assert left.error_info.is_retryable
    assert left.error == "Not attempted: the run stopped early"
    assert (left.attempts, left.token_usage) == (0, {})


async def test_completed_run_has_no_stopped_by() -> None:
    engine = processor()
    await (await started(items(2, Scripted()), engine))
    assert engine.stopped_by is None


async def test_stop_lets_calls_in_flight_end_and_starts_no_other() -> None:
    strategy, engine = Scripted([[10.0]]), processor(config(2))
    run = await started(items(6, strategy), engine)
    await asyncio.sleep(1)
    engine.stop()
    batch = await run
    assert categories(batch) == [None, None] + ["not_attempted"] * 4
    assert now() == 10
    assert engine.stopped_by is not None
    assert engine.stopped_by.category == "stopped"


async def test_stop_ends_a_backoff_at_once() -> None:
    engine = processor(config())
    run = await started([Item("a", Scripted([[failure(wait=1000)]]))], engine)
    await asyncio.sleep(1)
    engine.stop()
    assert categories(await run) == ["server_error"]  # its last error says more than that it could not go on
    assert now() == 1


async def test_failure_after_the_stop_is_not_retried() -> None:
    late = Scripted([[2.0, failure(wait=1000)]])
    batch = await process([Item("late", late), Item("fatal", Scripted([[1.0, failure("auth", retryable=False)]]))])
    assert categories(batch) == ["server_error", "auth"]
    assert len(late.calls) == 1
    assert now() == 2


async def test_stop_ends_a_cooldown_at_once() -> None:
    engine, other = processor(config(2)), Scripted([[1.0]])
    run = await started([Item("hit", Scripted([[rate_limit()]])), *items(3, other)], engine)
    await asyncio.sleep(5)
    engine.stop()
    assert categories(await run) in (
        ["rate_limit"] + ["not_attempted"] * 3,
        ["rate_limit", None] + ["not_attempted"] * 2,
    )
    assert now() == 5


async def test_stop_ends_a_stream_that_waits_for_its_source() -> None:
    async def never():
        yield Item("a", Scripted())
        await asyncio.sleep(10_000)

    engine, seen = processor(), list[str]()
    async for each in engine.process_stream(never()):
        seen.append(each.item_id)
        engine.stop()
    assert seen == ["a"]
    assert now() == 0


async def test_stop_before_a_run_applies_to_the_next_run_only() -> None:
    engine, strategy = processor(), Scripted()
    engine.stop()
    assert [each async for each in engine.process_stream(items(3, strategy))] == []
    assert engine.stopped_by is not None
    assert len([each async for each in engine.process_stream(items(3, strategy))]) == 3
    assert engine.stopped_by is None


async def test_not_attempted_items_cause_the_same_events_and_callbacks() -> None:
    """One finished event, one post-processor call and one progress update for each."""
    notes, posted, progress = Notes(), list[str](), list[int]()

    async def post(result: WorkItemResult[str, None]) -> None:
        posted.append(result.item_id)

    async def report(completed: int, total: int, item_id: str) -> None:
        progress.append(completed)

    work = [Item("fatal", Scripted([[failure("auth", retryable=False)]])), *items(9, Scripted())]
    await process(work, config(1), observers=[notes], post_processor=post, progress_callback=report)
    assert posted == [item.item_id for item in work]
    assert progress == list(range(1, 11))
    assert len(notes.of(ProcessingEvent.ITEM_FAILED)) == 10
    assert len(notes.of(ProcessingEvent.ITEM_STARTED)) == 1  # the others never did


async def test_cancellation_cleans_up_and_keeps_finished_results() -> None:
    strategy, notes = Scripted([[2.0]]), Notes()
    engine = processor(config(2), observers=[notes])
    run = await started(items(10, strategy), engine)
    await asyncio.sleep(5)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert strategy.cleaned == [5]
    assert strategy.running == 0
    assert [each.item_id for each in engine.results_so_far().results] == [f"item-{number}" for number in range(4)]
    failed = notes.of(ProcessingEvent.ITEM_FAILED)
    assert [data["category"] for data in failed] == ["cancelled"] * 2
    assert notes.of(ProcessingEvent.PROCESSING_COMPLETED)[0]["cancelled"] is True


@pytest.mark.parametrize("when", [0, 1.0, 31.0])
async def test_cancellation_takes_effect_at_once_at_any_point_of_a_run(when: float) -> None:
    """Before its first step; in a call; in a cooldown."""
    engine = processor(config(3))
    run = await started(items(5, Scripted([[30.0, rate_limit()]])), engine)
    if when:
        await asyncio.sleep(when)
    run.cancel()
    await asyncio.wait([run])
    assert run.cancelled()
    assert now() == when


async def test_strategy_that_swallows_the_cancellation_gets_no_further_item() -> None:
    calls: list[str] = []

    class Stubborn(LLMCallStrategy[str]):
        async def execute(self, prompt: str, attempt: int, timeout: float) -> tuple[str, dict[str, int]]:
            calls.append(prompt)
            try:
                await asyncio.sleep(10)
            except asyncio.CancelledError:
                return "too late", {"input_tokens": 1}
            return "ok", {}

    engine = processor(config(1))
    run = await started([Item("a", Stubborn(), "a"), Item("b", Stubborn(), "b")], engine)
    await asyncio.sleep(1)
    run.cancel()
    await asyncio.wait([run])
    assert run.cancelled()
    assert calls == ["a"]
    assert engine.results_so_far().total_input_tokens == 1  # it was billed, so it counts


async def test_cancelled_consumer_of_a_stream_cleans_up_and_keeps_the_results() -> None:
    strategy, engine = Scripted([[1.0]]), processor(config(3))

    async def consume() -> None:
        async for _ in engine.process_stream(items(10, strategy)):
            await asyncio.sleep(100)

    consumer = asyncio.create_task(consume())
    await asyncio.sleep(10)
    consumer.cancel()
    await asyncio.wait([consumer])
    for _ in range(10):  # the loop closes a generator that was left behind
        await asyncio.sleep(0)
    assert strategy.cleaned == [10]
    assert engine.results_so_far().succeeded > 0


async def test_bug_in_a_task_of_the_engine_is_raised() -> None:
    class Monstrous(LLMCallStrategy[str]):
        async def execute(self, prompt: str, attempt: int, timeout: float) -> tuple[str, dict[str, int]]:
            raise GeneratorExit  # no Exception, and nothing that an item may fail with

    with pytest.raises(BaseExceptionGroup):
        await process(items(3, Monstrous()))
