"""Shards on Dask and Ray: both run a job in two processes, and a killed process loses only its calls in flight."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import dask.config
import pytest

from batch_llm.errors import JobError
from batch_llm.prefect import tasks
from batch_llm.prefect.scheduling.clusters import on_dask
from batch_llm.prefect.scheduling.submitter import ShardWorkload
from tests.prefect.conftest import FlowOver, Serve
from tests.support.jobs import job
from tests.support.prefect_server import eventually, rows
from tests.support.processes import user_environment
from tests.support.servers import OpenAIServer

pytestmark = pytest.mark.prefect

ITEMS = 60
WORKERS = 4
SIGNS = {"dask": b"spawn_main", "ray": b"ray::shard"}
"""Part of the command line of a process that runs a shard."""

FLOW = """
import sys
from prefect import flow
from batch_llm.prefect import run_batch

@flow
def carried():
    summary = run_batch(name=sys.argv[1], source="docs.csv", prompt="{text}", model="openai-chat:m", output="out.jsonl",
              shard_size=10, config={"max_workers": 4}, runner=sys.argv[1], runner_options={"processes": 2})
    print(summary.succeeded, "answered")

if __name__ == "__main__":
    carried()
"""


def workers(runner: str, provider: OpenAIServer) -> list[int]:
    """Return the processes that currently run a shard and call this provider."""
    mark = f"OPENAI_BASE_URL={provider.base_url}".encode()
    found: list[int] = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command, variables = (process / "cmdline").read_bytes(), (process / "environ").read_bytes()
        except OSError:  # it is gone
            continue
        if mark in variables and SIGNS[runner] in command:
            found.append(int(process.name))
    return found


@pytest.mark.whole
@pytest.mark.parametrize("runner", ["dask", "ray"])
def test_killed_worker_loses_only_calls_in_flight(prefect_api: str, tmp_path: Path, runner: str) -> None:
    (tmp_path / "flow.py").write_text(FLOW)
    (tmp_path / "docs.csv").write_text("id,text\n" + "".join(f"d{n},document {n}\n" for n in range(ITEMS)))
    with OpenAIServer(latency=0.5) as provider, (tmp_path / "flow.log").open("w") as log:
        keys = {"OPENAI_BASE_URL": provider.base_url, "OPENAI_API_KEY": "test-key-that-is-no-secret"}
        env = user_environment(tmp_path, prefect_api, **keys)
        command = [sys.executable, "flow.py", runner]
        with subprocess.Popen(command, cwd=tmp_path, env=env, stdout=log, stderr=log) as flow:
            eventually(lambda: provider.requests >= 2 * WORKERS, seconds=120)
            running = workers(runner, provider)
            assert len(running) == 2
            os.kill(running[0], signal.SIGKILL)
            assert flow.wait(180) == 0, (tmp_path / "flow.log").read_text()
        assert [row["status"] for row in rows(tmp_path / "out.jsonl")] == ["succeeded"] * ITEMS
        assert provider.requests - ITEMS <= WORKERS // 2
        eventually(lambda: not workers(runner, provider))


@pytest.mark.whole
def test_dask_runs_a_job(flow_over: FlowOver, serve: Serve, tmp_path: Path) -> None:
    """Every item is answered in a separate process."""
    provider = serve()
    run = flow_over([f"document {number}" for number in range(6)], name="carried", prompt="{text}")
    state = run(model="openai-chat:m", runner="dask", runner_options={"processes": 1}, shard_size=3, canary=0)
    assert state.is_completed(), state.message
    assert provider.requests == 6
    assert [row["status"] for row in rows(tmp_path / "out.jsonl")] == ["succeeded"] * 6


def test_unreachable_cluster_is_reported_in_one_line() -> None:
    dask.config.set({"distributed.comm.timeouts.connect": "1s"})  # pyright: ignore[reportUnknownMemberType]
    made = job(runner="dask", runner_options={"address": "tcp://127.0.0.1:9"})
    with pytest.raises(JobError, match=r"runner 'dask' is not available at tcp://127\.0\.0\.1:9: "):
        on_dask(ShardWorkload(made, tasks.run_shard, 1, 1)).__enter__()


@pytest.mark.parametrize(
    ("address", "reason"),
    [("127.0.0.1", "missing port number"), ("http://127.0.0.1:8786", "unknown address scheme")],
)
def test_invalid_cluster_address_is_reported_in_one_line(address: str, reason: str) -> None:
    made = job(runner="dask", runner_options={"address": address})
    with pytest.raises(JobError, match=f"runner 'dask' is not available at {address}: {reason}"):
        on_dask(ShardWorkload(made, tasks.run_shard, 1, 1)).__enter__()
