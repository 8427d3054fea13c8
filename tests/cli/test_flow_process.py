"""The process of a flow starts before its run; it never outlives a command that does not use it."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from batch_llm.cli.actions.flow_process import FlowProcess
from batch_llm.errors import BatchLLMError
from tests.support.command import COMMAND, batch_llm, environment
from tests.support.prefect_server import eventually
from tests.support.servers import OpenAIServer
from tests.support.started_processes import processes_with

RUN = ["run", "summarize", "--source", "docs.jsonl", "--output", "out.jsonl", "--model", "openai-chat:m"]


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    (tmp_path / "docs.jsonl").write_text(json.dumps({"id": "a", "text": "one"}) + "\n")
    return tmp_path


def left_in(folder: Path) -> dict[int, str]:
    """Return the processes of a user in this folder; see `environment`."""
    return processes_with(f"PREFECT_HOME={folder / 'prefect'}")


def test_a_refused_job_leaves_no_process(docs: Path) -> None:
    refused = batch_llm(*RUN, "--id-column", "no such column", folder=docs, OPENAI_API_KEY="no-secret")
    assert refused.returncode == 2
    assert "no such column" in refused.stderr
    assert not left_in(docs)


@pytest.mark.whole
def test_a_model_that_the_process_refuses_starts_no_server(docs: Path) -> None:
    refused = batch_llm(*RUN, folder=docs)
    assert refused.returncode == 2
    assert refused.stderr.splitlines()[-1].startswith(
        "batch-llm: model 'openai-chat:m' needs a key: set OPENAI_API_KEY"
    )
    assert not left_in(docs)
    assert not list(docs.glob("prefect/batch-llm-server.*"))


def test_a_process_that_cannot_start_is_reported_in_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its own last line is the reason."""
    (tmp_path / "prefect.py").write_text("raise ImportError('this Prefect is broken')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with (
        FlowProcess.started() as process,
        pytest.raises(BatchLLMError, match="exited with code 1: ImportError: this Pr"),
    ):
        process.request("check", parameters={})


@pytest.mark.whole
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_process_exits_when_its_command_does(docs: Path, number: signal.Signals) -> None:
    """It waits for requests on a connection, which the kernel closes whatever ends the command."""
    env = environment(docs, OPENAI_API_KEY="no-secret")
    with subprocess.Popen(
        [*COMMAND, *RUN], cwd=docs, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as command:
        assert command.stdout
        assert command.stdout.readline() == b"Checking the job ...\n"
        assert any("prefect.flow_engine" in each for each in left_in(docs).values())
        command.send_signal(number)
        _, error = command.communicate(timeout=60)
    assert command.returncode == (130 if number == signal.SIGINT else -number)
    assert b"Traceback" not in error
    eventually(lambda: not left_in(docs), seconds=30)


@pytest.fixture
def provider() -> Iterator[OpenAIServer]:
    with OpenAIServer(latency=60.0) as server:
        yield server


@pytest.mark.prefect
@pytest.mark.whole
@pytest.mark.parametrize("moment", ["Loading Prefect", "Looking for", "Registering", "Run: ", "Starting and planning"])
def test_ctrl_c_at_any_moment_leaves_no_process(
    docs: Path, prefect_api: str, provider: OpenAIServer, moment: str
) -> None:
    """A run that exists by then is Cancelled."""
    env = environment(docs, PREFECT_API_URL=prefect_api, OPENAI_BASE_URL=provider.base_url, OPENAI_API_KEY="no-secret")
    with subprocess.Popen([*COMMAND, *RUN], cwd=docs, env=env, stdout=subprocess.PIPE, text=True) as command:
        assert command.stdout
        lines = iter(command.stdout.readline, "")
        said: list[str] = []
        for line in lines:
            said.append(line)
            if moment in line:
                break
        command.send_signal(signal.SIGINT)
        said += lines
        assert command.wait(60) == 130
    assert "Run the same command to continue" in "".join(said)
    assert not left_in(docs)
    for url in [line.removeprefix("Run: ").strip() for line in said if line.startswith("Run: ")]:
        assert state_is_cancelled(url)


def state_is_cancelled(run_url: str) -> bool:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        state = client.read_flow_run(UUID(run_url.rsplit("/", 1)[-1])).state
    return state is not None and state.is_cancelled()
