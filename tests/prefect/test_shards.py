"""How many shards run at once, and where."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from batch_llm.jobs import BatchJob
from batch_llm.prefect.shards import processes_for
from tests.prefect.processes import user_environment
from tests.prefect_server import rows

FLOW = """
import asyncio, os
from prefect import flow
from batch_llm import LLMCallStrategy
from batch_llm.prefect import run_batch

class Here(LLMCallStrategy[str]):
    async def execute(self, prompt, attempt, timeout):
        await asyncio.sleep(2)
        return str(os.getpid()), {}

@flow
def beside():
    run_batch(name="beside", items=[{"id": str(number)} for number in range(40)], prompt="{id}", strategy=Here,
              output="out.jsonl", shard_size=20, config={"max_workers": 100}, limits={"requests_per_minute": 60000})

if __name__ == "__main__":
    beside()
"""


def job(workers: int, **settings: object) -> BatchJob:
    made = {"source": "s", "prompt": "{text}", "output": "o.csv", "model": "openai-chat:m"}
    return BatchJob.parse({**made, "config": {"max_workers": workers}, **settings})


@pytest.mark.parametrize(
    ("made", "shards", "processes"),
    [
        (job(5), 100, 1),
        (job(50), 100, 1),
        (job(51), 100, 2),
        (job(1000), 100, 4),
        (job(1000), 3, 3),
        (job(1000, limits={"requests_per_minute": 3000}), 100, 1),
        (job(1000, limits={"requests_per_minute": 6000}), 100, 2),
        (job(1000, model="local"), 100, 1),
        (job(5), 0, 1),
    ],
)
def test_processes_are_as_many_as_help(
    monkeypatch: pytest.MonkeyPatch, made: BatchJob, shards: int, processes: int
) -> None:
    def four_cores(_: int) -> set[int]:
        return set(range(4))

    monkeypatch.setattr(os, "sched_getaffinity", four_cores)
    assert processes_for(made, shards) == processes


@pytest.mark.prefect
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core: shards run one after another")
def test_shards_run_beside_each_other_in_processes_of_their_own(prefect_api: str, tmp_path: Path) -> None:
    """Also those of a strategy that stands in the script itself."""
    (tmp_path / "flow.py").write_text(FLOW)
    env = user_environment(tmp_path, prefect_api)
    done = subprocess.run(
        [sys.executable, "flow.py"], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    answers = [row["answer"] for row in rows(tmp_path / "out.jsonl")]
    assert len(answers) == 40
    assert len(set(answers[:20])) == len(set(answers[20:])) == 1
    assert answers[0] != answers[20]
