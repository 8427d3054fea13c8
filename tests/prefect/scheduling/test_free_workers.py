"""Division of the workers among shards, and the queue of shards that wait for a retry; without a flow."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_llm import ErrorInfo, RetryConfig
from batch_llm.jobs import ShardOutcome, ShardRef
from batch_llm.prefect.scheduling.free_workers import FreeWorkers
from batch_llm.prefect.scheduling.retry_queue import RetryQueue

SHARD = ShardRef(3, 1, 10, 10, "3.jsonl", "n1")


def test_workers_are_divided_among_the_slots() -> None:
    free = FreeWorkers(5)
    assert [free.take(slots=2, busy=busy) for busy in (0, 1, 2)] == [3, 2, 0]


def test_next_shard_starts_with_the_workers_that_the_one_before_does_not_need() -> None:
    free = FreeWorkers(20)
    assert free.take(slots=1, busy=0) == 20
    free.give(9)
    assert free.take(slots=1, busy=0) == 0, "fewer than half"
    free.give(10)
    assert free.take(slots=1, busy=0) == 19
    free.give(1)
    assert free.take(slots=1, busy=0) == 0
    free.give(19)
    assert free.take(slots=1, busy=0) == 20


def test_a_process_that_becomes_ready_gets_its_part_at_the_end_of_a_shard() -> None:
    free = FreeWorkers(20)
    assert free.take(slots=1, busy=0) == 20
    assert free.take(slots=2, busy=1) == 0
    free.give(20)
    assert [free.take(slots=2, busy=busy) for busy in (0, 1)] == [10, 10]


def test_a_retry_takes_a_worker_per_item_and_starts_with_one() -> None:
    free = FreeWorkers(20)
    assert [free.take_up_to(3), free.take(slots=1, busy=0), free.take_up_to(3)] == [3, 17, 0]
    free.give(1)
    assert free.take_up_to(3) == 1


@given(
    st.integers(1, 50),
    st.lists(st.tuples(st.integers(1, 5), st.integers(0, 5), st.integers(0, 60)), max_size=40),
)
def test_shards_never_have_more_workers_than_the_run(workers: int, wanted: list[tuple[int, int, int]]) -> None:
    free = FreeWorkers(workers)
    running: list[int] = []
    for number, (slots, busy, items) in enumerate(wanted):
        if taken := free.take_up_to(items) if items else free.take(slots=slots, busy=busy):
            running.append(taken)
        assert sum(running) <= workers
        if number % 3 == 2 and running:
            free.give(running.pop(0))
    for taken in running:
        free.give(taken)
    assert free.take(slots=min(workers, 3), busy=0) > 0, "if all are free, a shard can start"


def outcome(info: ErrorInfo | None) -> ShardOutcome:
    counts: dict[str, Any] = {"succeeded": 9, "failed": 1, "not_attempted": 0, "input_tokens": 1, "output_tokens": 1}
    return ShardOutcome(index=3, items=10, **counts, cost_usd=None, seconds=1.0, unfinished=info, left=1)


@pytest.mark.parametrize(
    ("result", "waits"),
    [
        (outcome(ErrorInfo(is_retryable=True, category="server_error")), [30, 60, None]),
        (outcome(ErrorInfo(is_retryable=False, category="auth")), [None]),
        (outcome(None), [None]),
        (ConnectionResetError("reset by peer"), [30, 60, None]),
        (TypeError("a bug"), [None]),
    ],
)
def test_waits_are_those_of_the_config(result: Any, waits: list[float | None]) -> None:
    queue = RetryQueue(RetryConfig(max_attempts=3, initial_wait=30, max_wait=100, exponential_base=2, jitter=False))
    for number, wait in enumerate(waits, 1):
        assert queue.attempt(SHARD) == number
        assert queue.wait_after(SHARD, result) == wait
        if wait is not None:
            queue.add(SHARD, wait, 1)
    assert len(queue) == len(waits) - 1


def test_only_a_due_retry_is_taken_the_earliest_first() -> None:
    queue = RetryQueue(RetryConfig())
    queue.add(SHARD, 3600, 1)
    assert queue.due is None
    queue.add(SHARD, 0, 2)
    due = queue.due
    assert due is not None
    assert due.items == 2
    queue.remove(due)
    assert queue.due is None
    assert len(queue) == 1
