"""Default number of processes and default shard size."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_llm.jobs import plan
from batch_llm.jobs.planning.parallelism import (
    DEFAULT_REMOTE_PROCESSES,
    ITEMS_PER_WORKER,
    LEAST,
    MAX_SHARDS,
    MOST,
    SHARDS_PER_PROCESS,
    TARGET_SHARD_SECONDS,
    expected_processes,
    shard_size,
)
from tests.support.jobs import answer, job, write_lines

_ITEMS = st.integers(0, 10**9)
_WORKERS = st.integers(1, 10_000)
_PROCESSES = st.integers(1, 1_000)
_SECONDS = st.none() | st.floats(0, 1e6)
_PACE = st.none() | st.floats(0.001, 1e6)


@given(_ITEMS, _WORKERS, _PROCESSES, _SECONDS, _PACE)
def test_shards_are_bounded_in_size_and_number(
    items: int, workers: int, processes: int, seconds: float | None, per_second: float | None
) -> None:
    """A shard takes minutes unless there would be too many, fits into memory, and each process has several."""
    size = shard_size(items, workers=workers, processes=processes, seconds=seconds, per_second=per_second)
    assert LEAST <= size <= MOST
    enough = max(MAX_SHARDS, SHARDS_PER_PROCESS * processes)
    assert size == MOST or math.ceil(items / size) <= enough
    if size > max(LEAST, math.ceil(items / enough), math.ceil(ITEMS_PER_WORKER * workers / processes)):
        assert processes == 1 or math.ceil(items / size) > (SHARDS_PER_PROCESS - 1) * processes
        if seconds:
            assert (size - 1) * seconds * processes / workers <= TARGET_SHARD_SECONDS
        if per_second:
            assert (size - 1) * processes / per_second <= TARGET_SHARD_SECONDS


@given(_ITEMS, _ITEMS, _WORKERS, _PROCESSES)
def test_shards_do_not_get_smaller_with_more_items(items: int, more: int, workers: int, processes: int) -> None:
    fewer = shard_size(items, workers=workers, processes=processes)
    assert shard_size(items + more, workers=workers, processes=processes) >= fewer


@pytest.mark.parametrize(
    ("settings", "processes"),
    [
        ({"runner": "threads"}, 1),
        ({"runner_options": {"processes": 6}, "runner": "processes"}, 6),
        ({"runner": "pool"}, DEFAULT_REMOTE_PROCESSES),
        ({"runner": "dask", "runner_options": {"address": "tcp://10.0.0.1:8786"}}, DEFAULT_REMOTE_PROCESSES),
        ({"runner": "pool", "config": {"max_workers": 3}}, 3),
        ({"model": "local"}, 1),
    ],
)
def test_shard_size_depends_on_the_number_of_processes(settings: dict[str, Any], processes: int) -> None:
    """If the number is unknown, the plan assumes many, because too few shards would leave machines idle."""
    made = job(**{"model": "openai-chat:m", "config": {"max_workers": 500}, **settings})
    assert expected_processes(made, 10_000) == processes


def test_shard_size_uses_durations_of_earlier_runs(home: Path) -> None:
    """Slow items make small shards; the job's setting takes precedence."""
    write_lines(home / "docs.jsonl", *({"id": number, "text": f"{number}"} for number in range(2_000)))
    settings = {"config": {"max_workers": 20}, "runner_options": {"processes": 2}, "runner": "processes", "canary": 0}
    before = plan(job(**settings), "first")
    assert [shard.items for shard in before.shards] == [250] * 8
    answer(job(**settings), before, most=20, seconds=60.0)
    after = plan(job(**settings, refresh=True), "second")
    assert {shard.items for shard in after.shards} == {100}
    assert len(plan(job(**settings, shard_size=1_999), "third").shards) == 1


def test_short_run_has_one_shard_per_process() -> None:
    """Ten shards of a hundred items with fifty workers would spend a third of the time waiting for last answers."""
    assert math.ceil(1_000 / shard_size(1_000, workers=100, processes=2)) == 2


def test_a_small_run_is_one_shard(home: Path) -> None:
    write_lines(home / "docs.jsonl", *({"id": number, "text": "x"} for number in range(90)))
    assert len(plan(job(config={"max_workers": 500}, canary=0), "r").shards) == 1
