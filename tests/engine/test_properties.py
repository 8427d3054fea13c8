"""Laws that hold for any script of outcomes, any number of items and workers."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Coroutine, Iterator
from contextlib import aclosing
from typing import Any, Literal, TypeVar

import looptime
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from batch_llm import BatchResult, ProcessingEvent, RetryConfig, RunStopped, WorkItemResult
from tests.support.generated_runs import MAX_ATTEMPTS, MAX_LIMITS, Played, set_up, worlds
from tests.support.scripted_strategies import Item, now
from tests.support.selection import examples

T = TypeVar("T")
Results = list[WorkItemResult[str, Any]]
EVENT = ProcessingEvent


@pytest.fixture(autouse=True)
def silence() -> Iterator[None]:
    """Turn logging off: thousands of tracebacks would take longer than the runs."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


def in_virtual_time(coroutine: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=looptime.new_event_loop) as runner:
        result = runner.run(coroutine)
        assert not asyncio.all_tasks(runner.get_loop())
        return result


async def process_all(played: Played) -> BatchResult[str, Any]:
    async with played.engine as engine:
        for item in played.work:
            await engine.add_work(item)
        return await engine.process_all()


def check_calls(played: Played, workers: int) -> None:
    """Check the calls of a run that ended in any way."""
    record, notes = played.record, played.notes
    assert record.most <= workers
    assert record.running == 0
    assert all(strategy.cleaned == strategy.prepared <= 1 for strategy in played.strategies)
    for name, calls in record.calls.items():
        assert record.limits[name] <= MAX_LIMITS + 1
        assert calls - record.limits[name] <= MAX_ATTEMPTS
    for closed, reopened in played.pauses.spans:
        assert not [start for start in record.starts if closed + 1e-5 < start < reopened - 1e-5]
    started = [data["item_id"] for data in notes.of(EVENT.ITEM_STARTED)]
    finished = [data["item_id"] for data in notes.of(EVENT.ITEM_COMPLETED, EVENT.ITEM_FAILED)]
    assert len(started) == len(set(started))
    assert len(finished) == len(set(finished))
    assert set(started) <= set(finished)
    runs = notes.kinds.count(EVENT.PROCESSING_STARTED)
    assert notes.kinds.count(EVENT.PROCESSING_COMPLETED) == runs <= 1
    numbers = [[data["worker"] for data in notes.of(kind)] for kind in (EVENT.WORKER_STARTED, EVENT.WORKER_STOPPED)]
    assert sorted(numbers[0]) == sorted(numbers[1]) == list(range(1, len(numbers[0]) + 1))
    assert len(numbers[0]) <= workers


def check_results(played: Played, results: Results) -> None:
    """Check the results of a run that was not cancelled."""
    notes = played.notes
    finished = [data["item_id"] for data in notes.of(EVENT.ITEM_COMPLETED, EVENT.ITEM_FAILED)]
    attempted = {each.item_id for each in results if not each.error_info or each.error_info.category != "not_attempted"}
    succeeded = {data["item_id"] for data in notes.of(EVENT.ITEM_COMPLETED)}
    assert Counter(finished) == Counter(played.posted) == Counter(each.item_id for each in results)
    assert {data["item_id"] for data in notes.of(EVENT.ITEM_STARTED)} >= attempted
    assert {each.item_id for each in results if each.success} == succeeded
    assert played.progress == list(range(1, len(results) + 1))
    assert sum(each.token_usage.get("input_tokens", 0) for each in results) == played.record.billed
    assert sum(each.attempts for each in results) >= played.record.calls.total()
    assert len(notes.of(EVENT.RATE_LIMIT_HIT)) == len(played.pauses.spans)
    (totals,) = notes.of(EVENT.PROCESSING_COMPLETED)
    assert (totals["total"], totals["succeeded"]) == (len(results), len(succeeded))
    assert totals["failed"] == len(results) - len(succeeded)
    assert totals["input_tokens"] == played.record.billed
    denied = played.record.outcomes["auth"]
    assert played.engine.stopped_by is None or denied
    accepted = succeeded or played.record.outcomes["billed"]  # the provider has taken a call with this key
    assert played.engine.stopped_by is not None or not denied or accepted


@examples(200)
@given(worlds())
def test_any_batch_ends_with_one_result_an_item_in_order(world: dict[str, Any]) -> None:
    played = set_up(world)
    batch = in_virtual_time(process_all(played))
    assert [each.item_id for each in batch.results] == [item.item_id for item in played.work]
    assert batch.total_items == batch.succeeded + batch.failed == len(played.work)
    assert batch.total_input_tokens == played.record.billed
    check_calls(played, world["workers"])
    check_results(played, batch.results)


@examples(100)
@given(worlds())
def test_any_stream_ends_with_one_result_for_every_item_it_pulled(world: dict[str, Any]) -> None:
    played, pulled, stopped = set_up(world), list[str](), list[bool]()

    def source() -> Iterator[Item]:
        for item in played.work:
            pulled.append(item.item_id)
            yield item

    async def stream() -> Results:
        results: Results = []
        try:
            async for each in played.engine.process_stream(source()):
                results.append(each)
        except RunStopped:
            stopped.append(True)
        return results

    results = in_virtual_time(stream())
    assert bool(stopped) == (played.engine.stopped_by is not None)
    assert Counter(each.item_id for each in results) == Counter(pulled)
    assert (len(pulled) == len(played.work)) or played.engine.stopped_by is not None
    check_calls(played, world["workers"])
    check_results(played, results)


ONE_HANGS_AT_THE_END: dict[str, Any] = {
    "scripts": [["ok"]],
    "workers": 1,
    "strategies": 1,
    "seconds": 0.0,
    "slow": 0,
    "queue": 0,
    "rude": True,
    "fragile": False,
}
"""All items are done, and an observer is not."""

MOMENTS = st.floats(0, 100) | st.integers(0, 100).map(float)


@examples(100)
@given(worlds(), MOMENTS, st.booleans())
@example(world=ONE_HANGS_AT_THE_END, after=2.0, gracefully=False)
def test_any_batch_can_be_ended_at_any_time(world: dict[str, Any], after: float, gracefully: bool) -> None:
    """After `stop()` or cancellation there is one finished event for every item that started."""
    played = set_up(world)

    async def interrupted() -> None:
        run = asyncio.create_task(process_all(played))
        await asyncio.sleep(after)
        called, moment = len(played.record.starts), now()
        played.engine.stop() if gracefully else run.cancel()
        await asyncio.wait([run])
        assert run.cancelled() or run.result().total_items == len(played.work)
        # A cancellation takes a few passes of the loop to arrive, but no time.
        assert [start for start in played.record.starts[called:] if gracefully or start > moment] == []

    in_virtual_time(interrupted())
    results = played.engine.results_so_far().results
    assert len({each.item_id for each in results}) == len(results)
    check_calls(played, world["workers"])


@examples(100)
@given(worlds(), MOMENTS, st.sampled_from(["stop", "leave", "cancel"]))
@example(world=ONE_HANGS_AT_THE_END, after=2.0, way="cancel")
def test_any_stream_can_be_ended_at_any_time(
    world: dict[str, Any], after: float, way: Literal["stop", "leave", "cancel"]
) -> None:
    """By `stop()`, by leaving the loop, or by cancelling its consumer."""
    played, seen = set_up(world), list[str]()

    async def consume() -> None:
        async with aclosing(played.engine.process_stream(played.work)) as results:
            async for each in results:
                seen.append(each.item_id)
                if way == "leave" and now() >= after:
                    break

    async def interrupted() -> None:
        consumer = asyncio.create_task(consume())
        await asyncio.sleep(after)
        called, moment = len(played.record.starts), now()
        if way == "stop":
            played.engine.stop()
        elif way == "cancel":
            consumer.cancel()
        await asyncio.wait([consumer])
        assert consumer.cancelled() or isinstance(consumer.exception(), (RunStopped, type(None)))
        if way != "leave":
            assert [start for start in played.record.starts[called:] if way == "stop" or start > moment] == []

    in_virtual_time(interrupted())
    assert len(set(seen)) == len(seen)
    check_calls(played, world["workers"])


@given(
    st.integers(1, 10**6),
    st.floats(0.001, 100),
    st.floats(0, 1000),
    st.floats(1, 1e6),
)
def test_backoff_stays_within_its_bounds(attempts: int, initial: float, more: float, base: float) -> None:
    from batch_llm.engine.retry_policy import backoff

    exact = RetryConfig(initial_wait=initial, max_wait=initial + more, exponential_base=base, jitter=False)
    full = backoff(exact, attempts, 0.0)
    assert initial <= full <= initial + more
    assert full <= backoff(exact, attempts + 1, 0.0)
    jittered = RetryConfig(initial_wait=initial, max_wait=initial + more, exponential_base=base)
    assert backoff(jittered, attempts, 0.0) == full / 2
    assert full / 2 <= backoff(jittered, attempts, 0.37) <= full
