"""Number and location of concurrently running shards."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from batch_llm.jobs import BatchJob
from batch_llm.jobs.planning.parallelism import processes_for
from batch_llm.prefect import tasks
from batch_llm.prefect.scheduling.submitter import ShardWorkload
from tests.support.prefect_server import rows
from tests.support.processes import user_environment

FLOW = """
import asyncio, json, os, sys, time
from prefect import flow
from batch_llm import LLMCallStrategy
from batch_llm.prefect import run_batch

class Here(LLMCallStrategy[str]):
    async def execute(self, prompt, attempt, timeout):
        wait, work = map(float, prompt.split())
        await asyncio.sleep(wait)
        end = time.process_time() + work
        while time.process_time() < end:
            pass
        return str(os.getpid()), {}

@flow
def beside(output, items, prompt, settings):
    run_batch(name=output, items=[{"id": str(number), "prompt": prompt} for number in range(items)],
              prompt="{prompt}", strategy=Here, output=output + ".jsonl", shard_size=items // SHARDS,
              limits={"requests_per_minute": 600000}, canary=0, **settings)

if __name__ == "__main__":
    for output, job in json.loads(sys.argv[1]).items():
        beside(output, *job)
"""
SHARDS = 10
IN_TWO: dict[str, tuple[int, str, dict[str, object]]] = {
    "busy": (3000, "0.3 0.01", {"config": {"max_workers": 100}}),
    "said": (1000, "0.5 0", {"config": {"max_workers": 20}, "runner": "processes", "runner_options": {"processes": 2}}),
}
IN_ONE: dict[str, tuple[int, str, dict[str, object]]] = {
    "idle": (2000, "0.3 0", {"config": {"max_workers": 100}}),
    "threads": (1000, "0.3 0.01", {"config": {"max_workers": 100}, "runner": "threads"}),
}
"""Of each job its items, the seconds that one waits and computes, and its settings."""


def job(workers: int, **settings: object) -> BatchJob:
    made = {"source": "s", "prompt": "{text}", "output": "o.csv", "model": "openai-chat:m"}
    return BatchJob.parse({**made, "config": {"max_workers": workers}, **settings})


@pytest.mark.parametrize(
    ("made", "shards", "items", "processes"),
    [
        (job(5), 100, 10_000, 1),
        (job(50), 100, 10_000, 1),
        (job(51), 100, 10_000, 2),
        (job(1000), 100, 10_000, 4),
        (job(1000), 3, 10_000, 3),
        (job(1000), 100, 1_500, 3),
        (job(1000), 10, 999, 1),
        (job(1000, limits={"requests_per_minute": 3000}), 100, 10_000, 1),
        (job(1000, limits={"requests_per_minute": 6000}), 100, 10_000, 2),
        (job(1000, model="local"), 100, 10_000, 1),
        (job(5), 0, 0, 1),
    ],
)
def test_default_number_of_processes_depends_on_cores_and_items(
    monkeypatch: pytest.MonkeyPatch, made: BatchJob, shards: int, items: int, processes: int
) -> None:
    def four_cores(_: int) -> set[int]:
        return set(range(4))

    monkeypatch.setattr(os, "sched_getaffinity", four_cores)
    assert processes_for(made, shards, items) == processes


@pytest.mark.parametrize(
    ("options", "shards", "workers", "processes"),
    [({}, 100, 9, 4), ({"processes": 6}, 100, 9, 6), ({"processes": 6}, 5, 9, 5), ({"processes": 6}, 100, 3, 3)],
)
def test_configured_processes_are_limited_by_shards_and_workers(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, int], shards: int, workers: int, processes: int
) -> None:
    def four_cores(_: int) -> set[int]:
        return set(range(4))

    monkeypatch.setattr(os, "sched_getaffinity", four_cores)
    made = job(workers, runner="processes", runner_options=options)
    assert ShardWorkload(made, tasks.run_shard, shards, shards).processes() == processes


@pytest.mark.whole
@pytest.mark.prefect
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core: shards run in one process")
@pytest.mark.parametrize("name", [*IN_TWO, *IN_ONE])
def test_shards_run_in_a_second_process_if_the_job_says_so_or_one_is_busy(
    name: str, prefect_api: str, tmp_path: Path
) -> None:
    """Also with a strategy that is defined in the script; each shard runs in one process."""
    (tmp_path / "flow.py").write_text(FLOW.replace("SHARDS", str(SHARDS)))
    env = user_environment(tmp_path, prefect_api)
    items, _, _ = job_of = (IN_TWO | IN_ONE)[name]
    command = [sys.executable, "flow.py", json.dumps({name: job_of})]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr
    answers = [row["answer"] for row in rows(tmp_path / f"{name}.jsonl")]
    assert len(answers) == items
    assert len(set(answers)) == (2 if name in IN_TWO else 1)
    size = items // SHARDS
    shards = [answers[begin : begin + size] for begin in range(0, items, size)]
    assert all(len(set(shard)) == 1 for shard in shards)
