"""Both ways to deploy, for real: one process that serves, and a work pool with a worker in an unrelated folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.prefect.processes import DeployedRun, background, run, serving, user_environment
from tests.prefect_server import eventually, rows
from tests.providers.servers import OpenAIServer

pytestmark = pytest.mark.prefect


@pytest.fixture
def provider() -> Iterator[OpenAIServer]:
    with OpenAIServer() as server:
        yield server


@pytest.fixture
def env(prefect_api: str, provider: OpenAIServer, tmp_path: Path) -> dict[str, str]:
    """A user's environment: a key, a folder with documents, nothing of this process's settings."""
    (tmp_path / "docs.csv").write_text("id,text\n" + "".join(f"d{n},document {n}\n" for n in range(1, 8)))
    keys = {"OPENAI_BASE_URL": provider.base_url, "OPENAI_API_KEY": "test-key-that-is-no-secret"}
    return user_environment(tmp_path, prefect_api, **keys)


def summarize(output: Path, env: dict[str, str], cwd: Path) -> str:
    command = ("prefect", "deployment", "run", "batch-llm/summarize", "--watch", "--watch-timeout", "150")
    wanted = ("source=docs.csv", "model=openai-chat:gpt-4.1-mini", f"output={output.name}", f"ledger={output.stem}")
    return run(*command, *(part for value in wanted for part in ("-p", value)), env=env, cwd=cwd)


def test_one_process_serves_all_presets(provider: OpenAIServer, env: dict[str, str], tmp_path: Path) -> None:
    """Also those that were deployed to a work pool before; its end lets its runs write what they have."""
    run("batch-llm", "deploy", "summarize", "--pool", "test-pool", env=env, cwd=tmp_path)
    with serving({**env, "PREFECT_RUNNER_POLL_FREQUENCY": "1"}, tmp_path) as (process, _):
        summarize(tmp_path / "served.jsonl", env, tmp_path)
        assert provider.requests == 7
        assert [row["id"] for row in rows(tmp_path / "served.jsonl")] == [f"d{n}" for n in range(1, 8)]

        provider.latency = 1.0
        config = {"max_workers": 1}
        cut = DeployedRun(source="docs.csv", model="openai-chat:m", output="cut.jsonl", ledger="l", config=config)
        eventually(lambda: provider.requests >= 9, seconds=60)
        process.terminate()
        assert cut.end().is_cancelled()
        assert process.wait(30) == 0
    statuses = [row["status"] for row in rows(tmp_path / "cut.jsonl")]
    assert statuses.count("succeeded") == provider.requests - 7 < 7


def test_a_worker_in_an_unrelated_folder_carries_a_deployment(
    provider: OpenAIServer, env: dict[str, str], tmp_path: Path
) -> None:
    """Relative paths start from the folder where the worker was started, not from where the project lies."""
    run("batch-llm", "deploy", "--pool", "test-pool", env=env, cwd=tmp_path)
    with background("prefect", "worker", "start", "--pool", "test-pool", env=env, cwd=tmp_path):
        summarize(tmp_path / "worked.jsonl", env, tmp_path)
    assert provider.requests == 7
    assert len(rows(tmp_path / "worked.jsonl")) == 7


def test_a_run_outlives_its_worker(provider: OpenAIServer, env: dict[str, str], tmp_path: Path) -> None:
    """A worker that is killed takes the reader of its runs' log lines with it, and nothing else."""
    provider.latency = 0.5
    run("batch-llm", "deploy", "summarize", "--pool", "test-pool", env=env, cwd=tmp_path)
    often = {**env, "PREFECT_WORKER_QUERY_SECONDS": "1"}
    with background("prefect", "worker", "start", "--pool", "test-pool", env=often, cwd=tmp_path) as (worker, _):
        config = {"max_workers": 2}
        carried = DeployedRun(source="docs.csv", model="openai-chat:m", output="out.jsonl", ledger="l", config=config)
        eventually(lambda: provider.requests >= 2, seconds=90)
        worker.kill()
        assert carried.end().message.startswith("7 of 7 answered")
    assert len(rows(tmp_path / "out.jsonl")) == provider.requests == 7
