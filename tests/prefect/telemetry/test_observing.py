"""Requests to Prefect do not grow with the items of a run: a short `tests.benchmarks.observing`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from prefect import flow

from batch_llm import LLMCallStrategy
from batch_llm.jobs import BatchJob, Summary
from batch_llm.prefect import run_batch
from batch_llm.prefect.telemetry.events import MOST_OF_A_KIND
from tests.benchmarks.observing import Run, bounds, count_events, counted_writes

pytestmark = pytest.mark.prefect

SHARDS, ITEMS_EACH = 10, 24
MANY_SHARDS = 100
"""Those of 100,000 items."""


class FailsSome(LLMCallStrategy[str]):
    """Strategy that answers at once and fails one item in six."""

    async def execute(self, prompt: str, attempt: int, timeout: float) -> tuple[str, dict[str, int]]:
        if int(prompt) % 6 == 0:
            raise LookupError(f"nothing is known of {prompt}")
        return prompt, {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}


@flow(name="batch-llm-run-with-failures")
def run_with_failures(job: BatchJob) -> Summary:
    return run_batch(job, strategy=FailsSome)


def test_requests_to_prefect_grow_slowly_and_only_with_shards(prefect_api: str, tmp_path: Path) -> None:
    """A shard causes three events of Prefect and at most 100 of each own kind, although items fail in each shard."""
    items = SHARDS * ITEMS_EACH
    texts = (json.dumps({"id": str(number), "text": str(number)}) + "\n" for number in range(items))
    (tmp_path / "docs.jsonl").write_text("".join(texts))
    places = {"source": "docs.jsonl", "output": "out.jsonl", "ledger": "ledger"}
    settings: dict[str, Any] = {name: str(tmp_path / path) for name, path in places.items()}
    settings |= {"prompt": "{text}", "shard_size": ITEMS_EACH, "canary": 0, "failure_threshold": 0.5}
    settings["limits"] = {"requests_per_minute": 6_000_000}  # nothing to find out
    with counted_writes() as writes:
        summary = run_with_failures(BatchJob.parse({**settings, "name": "run-with-failures"}))
    (plan,) = (tmp_path / "ledger").glob("*/*/plan.json")
    events = count_events(plan.parent.name)
    assert (summary.succeeded, summary.failed) == (items * 5 // 6, items // 6)
    ours = {name: count for name, count in events.items() if name.startswith("batch-llm.")}
    of_tasks = sum(count for name, count in events.items() if name.startswith("prefect.task-run."))
    assert ours["batch-llm.shard.completed"] == SHARDS
    assert 0 < ours["batch-llm.item.failed"] <= MOST_OF_A_KIND
    assert of_tasks <= 3 * (SHARDS + 2)
    rest = events.total() - ours["batch-llm.shard.completed"] - ours["batch-llm.item.failed"] - of_tasks
    most_progress, kinds_of_a_shard = 101, 3
    assert 3 * (MANY_SHARDS + 2) + kinds_of_a_shard * MOST_OF_A_KIND + most_progress + rest < 1_000, events
    assert 0 < writes.count < 2 * SHARDS + 30


def test_benchmark_compares_pairs_of_runs() -> None:
    """The result is the median of the differences between each run and the bare one next to it."""
    bare, seen = Run(10, 1, 10.0, 100.0, 5, 0), Run(10, 1, 10.4, 104.0, 100, 60)
    slow = Run(10, 1, 30.0, 300.0, 100, 60)
    judged = bounds({"observed": [seen, slow, seen], "bare": [bare, bare, bare]}, None)
    assert [(bound.figure, bound.holds) for bound in judged] == [("+4.0%", True), ("+4.0%", True), ("1.54", True)]
    assert not bounds({"observed": [slow], "bare": [bare]}, Run(10, 1, 1.0, 1.0, 1, 1_000))[-1].holds
