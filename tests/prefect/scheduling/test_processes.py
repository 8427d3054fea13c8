"""Processes that run shards: which one takes the next shard, when further ones start, and what a kill does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from batch_llm.jobs import BatchJob, Progress
from batch_llm.prefect import tasks
from batch_llm.prefect.scheduling import processes
from batch_llm.prefect.scheduling.processes import Load, ProcessSlots, StartingProcesses
from batch_llm.prefect.scheduling.submitter import ShardWorkload
from tests.support.prefect_server import eventually, rows
from tests.support.processes import user_environment

FLOW = """
import asyncio, os
from prefect import flow
from batch_llm import LLMCallStrategy
from batch_llm.prefect import run_batch

class Noted(LLMCallStrategy[str]):
    async def execute(self, prompt, attempt, timeout):
        with open("pids", "a") as file:
            file.write(f"{os.getpid()}\\n")
        await asyncio.sleep(0.5)
        return str(os.getpid()), {}

@flow(name="killed")
def killed():
    run_batch(name="killed", items=[{"text": str(number)} for number in range(2000)], prompt="{text}", strategy=Noted,
              output="out.jsonl", shard_size=20, canary=0, runner="processes", runner_options={"processes": 2},
              config={"max_workers": 10})

if __name__ == "__main__":
    killed()
"""


class Pool:
    """A process pool with processes that are ready when the test says so."""

    def __init__(self) -> None:
        self.ready = 0
        self.shards: list[Future[Any]] = []

    def submit(self, task: Any, arguments: dict[str, Any]) -> Future[Any]:
        self.shards.append(Future())
        return self.shards[-1]


class Here:
    """The threads of the flow's process."""

    def __init__(self) -> None:
        self.shards: list[Future[Any]] = []

    def __call__(self, **arguments: Any) -> Any:
        self.shards.append(Future())
        return self.shards[-1]


@pytest.fixture
def pool() -> Pool:
    return Pool()


@pytest.fixture
def here() -> Here:
    return Here()


@pytest.fixture
def slots(pool: Pool, here: Here) -> ProcessSlots:
    job = BatchJob.parse({"source": "s", "prompt": "{text}", "output": "o.csv", "model": "openai-chat:m"})

    def start(_: StartingProcesses) -> Any:
        return pool

    return ProcessSlots(ShardWorkload(job, tasks.run_shard, 9, 900), here, 3, start)


def test_a_process_that_is_starting_gets_no_shard(slots: ProcessSlots, pool: Pool, here: Here) -> None:
    slots.start()
    assert slots.slots() == 1
    slots.submit(attempt=1)
    slots.submit(attempt=1)
    assert (len(here.shards), len(pool.shards)) == (2, 0)
    pool.ready = 2
    assert slots.slots() == 3
    last = slots.submit(attempt=1)
    assert not slots.overlaps(last)
    assert slots.overlaps(here.shards[0])  # pyright: ignore[reportArgumentType]  a future without a task run
    assert (len(here.shards), len(pool.shards)) == (2, 1)


def test_a_shard_is_taken_by_a_process_that_is_free_and_a_retry_by_this_one(
    slots: ProcessSlots, pool: Pool, here: Here
) -> None:
    slots.start()
    pool.ready = 1
    slots.submit(attempt=1)
    assert (len(here.shards), len(pool.shards)) == (1, 0), "this process is free"
    slots.submit(attempt=2)
    slots.submit(attempt=1)
    assert (len(here.shards), len(pool.shards)) == (2, 1)
    slots.submit(attempt=1)
    assert (len(here.shards), len(pool.shards)) == (3, 1), "the other one has a shard"
    pool.shards[0].set_result(None)
    slots.submit(attempt=1)
    assert (len(here.shards), len(pool.shards)) == (3, 2)


@pytest.mark.parametrize("part", [1.0, 0.25])
def test_load_is_high_after_two_busy_windows(part: float) -> None:
    """Also on a machine that others use: a busy process gets a part of a core there."""
    now = used = 0.0
    load = Load(lambda: now, lambda: used, lambda: part)
    seen: list[bool] = []
    for share, counts in [(1.0, False), (1.0, True), (0.5, True), (0.7, True), (0.7, True), (0.1, True)]:
        now += processes.LOAD_SECONDS
        used += share * part * processes.LOAD_SECONDS
        seen.append(load.is_high(counts=counts))
    assert seen == [False, False, False, False, True, False]


@pytest.mark.parametrize(("total", "starts"), [(1000, False), (1100, False), (1101, True), (100_000, True)])
def test_further_processes_start_only_if_the_rest_takes_longer_than_a_start(
    slots: ProcessSlots, monkeypatch: pytest.MonkeyPatch, total: int, starts: bool
) -> None:
    """At 10 items per second and a start of 10 s: for more than 100 items."""

    def always(self: Load, *, counts: bool) -> bool:
        return counts

    monkeypatch.setattr(Load, "is_high", always)
    logger = logging_to_nothing(monkeypatch)
    slots.start_if_busy(Progress(total=total, done=1000, succeeded=1000, seconds=100.0))
    assert bool(logger) is starts


def logging_to_nothing(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []

    class Logger:
        def info(self, text: str, *arguments: object) -> None:
            lines.append(text % arguments)

    monkeypatch.setattr(processes, "get_run_logger", Logger)
    return lines


@pytest.mark.whole
@pytest.mark.prefect
def test_a_killed_process_stops_the_shard_in_the_other_one(prefect_api: str, tmp_path: Path) -> None:
    """The flow's process finishes its calls in flight before the results are written."""
    (tmp_path / "flow.py").write_text(FLOW)
    env = user_environment(tmp_path, prefect_api)
    with (tmp_path / "flow.log").open("w") as log:
        flow = subprocess.Popen([sys.executable, "flow.py"], cwd=tmp_path, env=env, stdout=log, stderr=log)
    pids = tmp_path / "pids"

    def other() -> set[int]:
        return {int(pid) for pid in pids.read_text().split()} - {flow.pid} if pids.exists() else set()

    (pid,) = eventually(other, seconds=90)
    os.kill(pid, signal.SIGKILL)
    assert flow.wait(90) == 1
    assert "stopped because a process of the task runner was killed" in (tmp_path / "flow.log").read_text()
    answers = [row["answer"] for row in rows(tmp_path / "out.jsonl") if row["status"] == "succeeded"]
    called = pids.read_text().split()
    assert answers.count(str(flow.pid)) == called.count(str(flow.pid)), (
        "each call of the flow's process is in the output"
    )
