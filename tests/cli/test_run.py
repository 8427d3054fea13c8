"""`batch-llm run` with a real Prefect server, a separate process for the flow, and a provider on loopback."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import COMMAND, batch_llm, batch_llm_here, environment
from tests.support.prefect_server import eventually, rows
from tests.support.servers import OpenAIServer

pytestmark = pytest.mark.prefect

RUN = ["run", "summarize", "--source", "docs.jsonl", "--output", "out.jsonl", "--model", "openai-chat:gpt-4.1-mini"]


@pytest.fixture
def provider() -> Iterator[OpenAIServer]:
    with OpenAIServer() as server:
        yield server


@pytest.fixture
def env(prefect_api: str, provider: OpenAIServer, tmp_path: Path) -> dict[str, str]:
    docs = [{"id": f"d{number}", "text": f"document {number}"} for number in range(1, 13)]
    (tmp_path / "docs.jsonl").write_text("".join(json.dumps(doc) + "\n" for doc in docs))
    return {"PREFECT_API_URL": prefect_api, "OPENAI_BASE_URL": provider.base_url, "OPENAI_API_KEY": "no-secret"}


def state_of(run_url: str) -> Any:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        return client.read_flow_run(run_url.rsplit("/", 1)[-1]).state  # pyright: ignore[reportArgumentType]


def cancel(run_id: str) -> None:
    from prefect.client.orchestration import get_client
    from prefect.states import Cancelling

    with get_client(sync_client=True) as client:
        client.set_flow_run_state(run_id, Cancelling())  # pyright: ignore[reportArgumentType]  text will do


@pytest.mark.whole
def test_a_run_prints_its_totals_and_pays_once(env: dict[str, str], provider: OpenAIServer, tmp_path: Path) -> None:
    """The last line of standard output is the JSON object; a second run reuses all answers."""
    first = batch_llm(*RUN, "--json", folder=tmp_path, **env)
    assert first.returncode == 0, first.stderr
    (line,) = first.stdout.splitlines()
    totals = json.loads(line)
    assert (totals["total_items"], totals["succeeded"], totals["failed"], totals["reused"]) == (12, 12, 0, 0)
    assert (totals["state"], totals["not_attempted"], totals["categories"]) == ("completed", 0, {})
    assert totals["message"].startswith("12 of 12 answered")
    assert (totals["output"], totals["failures"]) == (str(tmp_path / "out.jsonl"), None)
    assert totals["total_input_tokens"] == provider.input_tokens
    assert len(rows(tmp_path / "out.jsonl")) == 12
    assert state_of(totals["flow_run_url"]).is_completed()

    (tmp_path / "docs.png").touch()
    glob = ["docs.{jsonl,png}" if argument == "docs.jsonl" else argument for argument in RUN]
    second = batch_llm(*glob, folder=tmp_path, **env)
    assert second.returncode == 0, second.stderr
    assert provider.requests == 12
    assert "12 of 12 answered, 12 reused" in second.stdout
    first_lines, _, last_lines = second.stdout.partition("/runs/flow-run/")
    for part in (first_lines, last_lines):
        assert "Warning: 1 file left out: 1 .png (docs.png)." in part
    assert str(tmp_path / "out.jsonl") in second.stdout
    assert "/runs/flow-run/" in second.stdout


@pytest.mark.whole
def test_a_failed_run_prints_the_reason_and_the_next_command(
    env: dict[str, str], provider: OpenAIServer, tmp_path: Path
) -> None:
    provider.rule = lambda call: OpenAIServer.too_long() if call.prompt.endswith(("7", "8")) else None
    done = batch_llm(*RUN, folder=tmp_path, **env)
    assert done.returncode == 1
    assert "failure_threshold=0.1" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert str(tmp_path / "out.failures.jsonl") in done.stdout


@pytest.mark.whole
def test_a_run_that_used_up_its_budget_names_the_setting_to_raise(
    env: dict[str, str], provider: OpenAIServer, tmp_path: Path
) -> None:
    """The run is not completed; the same command with a larger budget continues it."""
    done = batch_llm(*RUN, "-p", "budget_tokens=30", "-p", 'config={"max_workers": 1}', folder=tmp_path, **env)
    assert done.returncode == 1, done.stderr
    assert 0 < provider.requests < 12
    assert "budget_tokens of 30 tokens is used up" in done.stderr
    assert "To continue (finished items are not charged again), raise budget_tokens: " in done.stdout
    totals = batch_llm("status", "summarize", folder=tmp_path).stdout
    assert "budget  budget_tokens: " in totals


@pytest.mark.whole
def test_source_error_found_while_planning_is_one_line(
    env: dict[str, str], provider: OpenAIServer, tmp_path: Path
) -> None:
    (tmp_path / "docs.jsonl").write_text('{"id": "a", "text": "one"}\n{"id": "a", "text": "two"}\n')
    done = batch_llm(*RUN, "--only-failed", "--json", folder=tmp_path, **env)
    assert done.returncode == 2
    assert "not unique: 'a'" in json.loads(done.stdout)["error"]
    assert done.stderr.splitlines()[-1] == f"batch-llm: {json.loads(done.stdout)['error']}"
    assert provider.requests == 0


def test_ctrl_c_stops_the_run_and_keeps_its_answers(
    env: dict[str, str], provider: OpenAIServer, tmp_path: Path
) -> None:
    """Calls in flight are answered and recorded; the run is Cancelled, its process ends; the next run calls the rest.

    The last line of the next run on standard output is a JSON object.
    """
    provider.latency = 1.0
    command = [*COMMAND, *RUN, "-p", 'config={"max_workers": 2}']
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment(tmp_path, **env), stdout=subprocess.PIPE, text=True
    ) as process:
        eventually(lambda: provider.requests >= 2, seconds=120)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Run the same command to continue" in said
    (url,) = [line.removeprefix("Run: ") for line in said.splitlines() if line.startswith("Run: ")]
    assert state_of(url).is_cancelled()
    asked = provider.requests
    assert asked <= 6
    left = subprocess.run(["pgrep", "-f", "prefect.flow_engine"], capture_output=True, text=True, check=False).stdout
    assert all(str(tmp_path) not in Path(f"/proc/{pid}/environ").read_text() for pid in left.split())

    provider.latency = 0.0
    done = batch_llm_here(*RUN, "--json", folder=tmp_path, **env)
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    totals = json.loads(line)
    assert (totals["total_items"], totals["succeeded"], totals["failed"], totals["reused"]) == (12, 12, 0, asked)
    assert (totals["output"], totals["failures"]) == (str(tmp_path / "out.jsonl"), None)
    assert len(rows(tmp_path / "out.jsonl")) == 12
    assert state_of(totals["flow_run_url"]).is_completed()
    assert provider.requests == 12


@pytest.mark.whole
def test_cancel_in_the_ui_stops_a_run_of_the_command(
    env: dict[str, str], provider: OpenAIServer, tmp_path: Path
) -> None:
    """After Cancel in the UI no call starts, and the command prints what is missing."""
    provider.latency = 1.0
    command = [*COMMAND, *RUN, "-p", 'config={"max_workers": 1}']
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        env=environment(tmp_path, **env),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        eventually(lambda: provider.requests >= 2, seconds=120)
        (folder,) = (path.parent for path in tmp_path.glob(".batch-llm/summarize/*/plan.json"))
        cancel(folder.name)
        said, complained = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "not attempted" in said + complained
    assert state_of(folder.name).is_cancelled()
    assert provider.requests < 12
    assert len(rows(tmp_path / "out.jsonl")) == 12, "the output has answered and unanswered items"
