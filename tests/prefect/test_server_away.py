"""Runs during which the Prefect server is disconnected, or killed and restarted on the same database."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support.prefect_server import DATABASE, copy_database, eventually, rows
from tests.support.processes import user_environment
from tests.support.relay import Relay
from tests.support.servers import OpenAIServer

from .test_flow import api

FLOW = """
from prefect import flow
from batch_llm.prefect import run_batch

@flow(name="away")
def away():
    run_batch(name="away", source="docs.csv", prompt="{text}", model="openai-chat:m", output="out.jsonl",
              ledger="ledger", shard_size=4, config={"max_workers": 2})

away()
"""


@contextmanager
def prefect_server(home: Path, port: int) -> Generator[subprocess.Popen[bytes]]:
    from batch_llm.prefect.deployment.local_server import healthy

    env = {**os.environ, "PREFECT_HOME": str(home), "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"}
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with (home / "server.log").open("a") as log:
        server = subprocess.Popen(command, env=env, stdout=log, stderr=log, start_new_session=True)
    try:
        eventually(lambda: healthy(f"http://127.0.0.1:{port}/api"), seconds=120)
        yield server
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def last_states(url: str) -> list[Any]:
    """Return the state types of all flow runs, oldest first."""
    import httpx

    with httpx.Client(timeout=30) as client:
        found = client.post(f"{url}/flow_runs/filter", json={"sort": "START_TIME_ASC"}).json()
    return [flow_run["state_type"] for flow_run in found]


@pytest.mark.whole
@pytest.mark.prefect
def test_disconnected_server_loses_no_answer_and_no_state(prefect_api: str, tmp_path: Path) -> None:
    """The run continues without the server and reports its state after the connection is back."""
    (tmp_path / "flow.py").write_text(FLOW)
    (tmp_path / "docs.csv").write_text("id,text\n" + "".join(f"d{n},document {n}\n" for n in range(1, 13)))
    with OpenAIServer(latency=0.3) as provider, Relay(urlsplit(prefect_api).port or 0) as relay:
        keys = {"OPENAI_BASE_URL": provider.base_url, "OPENAI_API_KEY": "test-key-that-is-no-secret"}
        env = user_environment(tmp_path, f"http://127.0.0.1:{relay.port}/api", **keys, PREFECT_HOME=str(tmp_path / "p"))
        log = tmp_path / "flow.log"
        with log.open("w") as output:
            running = subprocess.Popen([sys.executable, "flow.py"], cwd=tmp_path, env=env, stdout=output, stderr=output)
        eventually(lambda: provider.requests >= 2, seconds=120)
        relay.cut()
        eventually(lambda: "Prefect is unreachable: waiting" in log.read_text(), seconds=90)
        assert provider.requests == 12
        assert [row["status"] for row in rows(tmp_path / "out.jsonl")] == ["succeeded"] * 12
        relay.mend()
        assert running.wait(90) == 0
    found = api("/flow_runs/filter", {"flows": {"name": {"any_": ["away"]}}})
    assert [flow_run["state_type"] for flow_run in found] == ["COMPLETED"]


@pytest.mark.whole
@pytest.mark.prefect
def test_killed_server_loses_no_answer_and_no_state(tmp_path: Path, empty_database: Path) -> None:
    """Calls continue, files are written, the run's state is reported later, and a new run makes no call."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}/api"
    (tmp_path / "flow.py").write_text(FLOW)
    (tmp_path / "docs.csv").write_text("id,text\n" + "".join(f"d{n},document {n}\n" for n in range(1, 13)))
    with OpenAIServer(latency=0.5) as provider:
        keys = {"OPENAI_BASE_URL": provider.base_url, "OPENAI_API_KEY": "test-key-that-is-no-secret"}
        env = user_environment(tmp_path, url, **keys, PREFECT_HOME=str(tmp_path / "client"))
        command = [sys.executable, "flow.py"]
        log = tmp_path / "flow.log"
        (home := tmp_path / "server").mkdir()
        if empty_database.exists():
            copy_database(empty_database, home / DATABASE)
        with log.open("w") as output:
            with prefect_server(home, port):
                running = subprocess.Popen(command, cwd=tmp_path, env=env, stdout=output, stderr=output)
                eventually(lambda: provider.requests >= 2, seconds=60)
            eventually(lambda: "Prefect is unreachable: waiting" in log.read_text(), seconds=90)
            assert provider.requests == 12
            assert [row["status"] for row in rows(tmp_path / "out.jsonl")] == ["succeeded"] * 12
            assert running.poll() is None
            with prefect_server(home, port):
                assert running.wait(90) == 0
                assert log.read_text().count("Progress cannot be published to Prefect") == 1
                again = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, timeout=90, check=False)
                assert again.returncode == 0, again.stderr
                assert last_states(url) == ["COMPLETED", "COMPLETED"]
        assert provider.requests == 12
