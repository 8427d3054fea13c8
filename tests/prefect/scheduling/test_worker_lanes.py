"""Division of the workers among shards, and the queue of shards that wait for a retry; without a flow."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_llm import ErrorInfo, RetryConfig
from batch_llm.jobs import ShardOutcome, ShardRef
from batch_llm.prefect.scheduling.retry_queue import RetryQueue
from batch_llm.prefect.scheduling.worker_lanes import WorkerLanes

SHARD = ShardRef(3, 1, 10, 10, "3.jsonl", "n1")


def test_workers_are_divided_among_the_lanes() -> None:
    lanes = WorkerLanes(5, 2)
    assert (lanes.take(), lanes.take(), lanes.take()) == ((0, 3), (1, 2), None)


def test_next_shard_starts_with_the_workers_that_the_one_before_does_not_need() -> None:
    lanes = WorkerLanes(20, 1)
    assert lanes.take() == (0, 20)
    lanes.give(0, 9)
    assert lanes.take() is None, "fewer than half of the lane"
    lanes.give(0, 10)
    assert lanes.take() == (0, 19)
    lanes.give(0, 1)
    assert lanes.take() is None
    lanes.give(0, 19)
    assert lanes.take() == (0, 20)


def test_a_retry_takes_a_worker_per_item_and_starts_with_one() -> None:
    lanes = WorkerLanes(20, 1)
    assert (lanes.take(3), lanes.take(), lanes.take(3)) == ((0, 3), (0, 17), None)
    lanes.give(0, 1)
    assert lanes.take(3) == (0, 1)


@given(st.integers(1, 50), st.integers(1, 5), st.lists(st.one_of(st.none(), st.integers(1, 60)), max_size=40))
def test_shards_never_have_more_workers_than_the_run(workers: int, count: int, wanted: list[int | None]) -> None:
    lanes = WorkerLanes(workers, min(workers, count))
    running: list[tuple[int, int]] = []
    for number, items in enumerate(wanted):
        if taken := lanes.take(items):
            running.append(taken)
        assert all(taken > 0 for _, taken in running)
        assert sum(taken for _, taken in running) <= workers
        if number % 3 == 2 and running:
            lanes.give(*running.pop(0))
    for taken in running:
        lanes.give(*taken)
    assert lanes.take() is not None, "a free lane accepts a shard of any size"


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
