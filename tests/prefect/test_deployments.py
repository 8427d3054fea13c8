"""Both ways to deploy, for real: one process that serves, and a work pool with a worker in an unrelated folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.prefect_server import eventually, rows
from tests.providers.servers import OpenAIServer

pytestmark = pytest.mark.prefect

BIN = Path(sys.executable).parent


@pytest.fixture
def provider() -> Iterator[OpenAIServer]:
    with OpenAIServer() as server:
        yield server


@pytest.fixture
def env(prefect_api: str, provider: OpenAIServer, tmp_path: Path) -> dict[str, str]:
    """A user's environment: a key, a folder with documents, nothing of this process's settings."""
    (tmp_path / "docs.csv").write_text("id,text\n" + "".join(f"d{n},document {n}\n" for n in range(1, 8)))
    kept = {name: value for name, value in os.environ.items() if name != "BATCH_LLM_HOME"}
    return kept | {
        "PREFECT_API_URL": prefect_api,
        "OPENAI_BASE_URL": provider.base_url,
        "OPENAI_API_KEY": "test-key-that-is-no-secret",
        "PWD": str(tmp_path),
    }


def run(*command: str, env: dict[str, str], cwd: Path, timeout: float = 180) -> str:
    command = (str(BIN / command[0]), *command[1:])
    done = subprocess.run(command, env=env, cwd=cwd, capture_output=True, text=True, timeout=timeout, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@contextmanager
def background(*command: str, env: dict[str, str], cwd: Path) -> Generator[Path]:
    """Run a command until the block ends; yields its log."""
    log = cwd / f"{command[0]}.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [str(BIN / command[0]), *command[1:]], env=env, cwd=cwd, stdout=output, stderr=output
        )
    try:
        yield log
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            raise


def summarize(output: Path, env: dict[str, str], cwd: Path) -> str:
    command = ("prefect", "deployment", "run", "batch-llm/summarize", "--watch", "--watch-timeout", "150")
    wanted = ("source=docs.csv", "model=openai-chat:gpt-4.1-mini", f"output={output.name}", f"ledger={output.stem}")
    return run(*command, *(part for value in wanted for part in ("-p", value)), env=env, cwd=cwd)


def test_one_process_serves_all_presets(provider: OpenAIServer, env: dict[str, str], tmp_path: Path) -> None:
    """Also those that were deployed to a work pool before."""
    run("batch-llm", "deploy", "summarize", "--pool", "test-pool", env=env, cwd=tmp_path)
    with background("batch-llm", "serve", env=env, cwd=tmp_path) as log:
        eventually(lambda: "batch-llm/summarize" in log.read_text(), seconds=90)
        summarize(tmp_path / "served.jsonl", env, tmp_path)
    assert provider.requests == 7
    assert [row["id"] for row in rows(tmp_path / "served.jsonl")] == [f"d{n}" for n in range(1, 8)]


def test_a_worker_in_an_unrelated_folder_carries_a_deployment(
    provider: OpenAIServer, env: dict[str, str], tmp_path: Path
) -> None:
    """Relative paths start from the folder where the worker was started, not from where the project lies."""
    run("batch-llm", "deploy", "--pool", "test-pool", env=env, cwd=tmp_path)
    with background("prefect", "worker", "start", "--pool", "test-pool", env=env, cwd=tmp_path):
        summarize(tmp_path / "worked.jsonl", env, tmp_path)
    assert provider.requests == 7
    assert len(rows(tmp_path / "worked.jsonl")) == 7
