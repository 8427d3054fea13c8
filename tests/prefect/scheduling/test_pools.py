"""Shards in the processes of a pool: kills are reported, and a new run continues."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.prefect_server import eventually, rows
from tests.support.processes import user_environment
from tests.support.servers import OpenAIServer

pytestmark = pytest.mark.prefect

WORKERS = 2
FLOW = """
from prefect import flow
from prefect.task_runners import ProcessPoolTaskRunner
from batch_llm.prefect import run_batch

@flow(name="pool", task_runner=ProcessPoolTaskRunner(max_workers=1))
def pool():
    run_batch(name="pool", source="docs.csv", prompt="{text}", model="openai-chat:m", output="out.jsonl",
              ledger="ledger", shard_size=6, config={"max_workers": 2})

if __name__ == "__main__":
    pool()
"""


@pytest.fixture
def provider() -> Iterator[OpenAIServer]:
    with OpenAIServer(latency=0.5) as server:
        yield server


@pytest.fixture
def env(prefect_api: str, provider: OpenAIServer, tmp_path: Path) -> dict[str, str]:
    (tmp_path / "flow.py").write_text(FLOW)
    (tmp_path / "docs.csv").write_text("id,text\n" + "".join(f"d{n},document {n}\n" for n in range(1, 13)))
    keys = {"OPENAI_BASE_URL": provider.base_url, "OPENAI_API_KEY": "test-key-that-is-no-secret"}
    return user_environment(tmp_path, prefect_api, **keys)


def start(env: dict[str, str], folder: Path) -> subprocess.Popen[bytes]:
    with (folder / "flow.log").open("w") as log:
        return subprocess.Popen([sys.executable, "flow.py"], cwd=folder, env=env, stdout=log, stderr=log)


def pool_process(flow: subprocess.Popen[bytes]) -> int:
    children = subprocess.run(["pgrep", "-P", str(flow.pid)], capture_output=True, text=True, check=False).stdout
    (found,) = [int(pid) for pid in children.split() if "spawn_main" in Path(f"/proc/{pid}/cmdline").read_text()]
    return found


@pytest.mark.whole
def test_killed_pool_process_and_flow_lose_only_calls_in_flight(
    env: dict[str, str], provider: OpenAIServer, tmp_path: Path
) -> None:
    """First the pool's process is killed, then the flow's; each time the next run continues."""
    flow = start(env, tmp_path)
    eventually(lambda: provider.requests >= 3, seconds=90)
    os.kill(pool_process(flow), signal.SIGKILL)
    assert flow.wait(90) == 1
    assert "stopped because a process of the task runner was killed" in (tmp_path / "flow.log").read_text()
    assert "not_attempted" in {row["status"] for row in rows(tmp_path / "out.jsonl")}

    calls = provider.requests
    flow = start(env, tmp_path)
    eventually(lambda: provider.requests > calls, seconds=90)
    orphan = pool_process(flow)
    flow.kill()
    flow.wait()
    eventually(lambda: not Path(f"/proc/{orphan}").exists(), seconds=30)

    assert start(env, tmp_path).wait(120) == 0
    assert [row["status"] for row in rows(tmp_path / "out.jsonl")] == ["succeeded"] * 12
    assert provider.requests - 12 <= 2 * WORKERS
