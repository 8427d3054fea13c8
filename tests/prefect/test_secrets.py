"""Keys from Secret blocks are sent to the provider and appear nowhere else."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.blocks.system import Secret
from pydantic import SecretStr

from batch_llm.jobs import BatchJob
from batch_llm.jobs.secrets import redact
from batch_llm.prefect.secrets import provide_password
from tests.support.command import batch_llm
from tests.support.flow_file import load_flow
from tests.support.prefect_server import eventually
from tests.support.servers import Call, OpenAIServer, Reply

from .test_flow import api

pytestmark = pytest.mark.prefect

KEY = "kept-in-a-block-5f2c81"
RUN = ("run", "summarize", "--source", "docs.jsonl", "--output", "out.jsonl", "--model", "openai-chat:gpt-4.1-mini")
JOB = {"name": "summarize", "source": "docs.jsonl", "output": "out.jsonl", "prompt": "{text}"}
JOB["model"] = "openai-chat:gpt-4.1-mini"


@pytest.fixture
def provider() -> Iterator[OpenAIServer]:
    with OpenAIServer() as server:
        yield server


@pytest.fixture
def env(prefect_api: str, provider: OpenAIServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    (tmp_path / "docs.jsonl").write_text("".join(json.dumps({"id": n, "text": f"text {n}"}) + "\n" for n in range(4)))
    return {"PREFECT_API_URL": prefect_api, "OPENAI_BASE_URL": provider.base_url}


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    "by_command", [False, pytest.param(True, marks=pytest.mark.whole)], ids=["in this process", "by the command"]
)
def test_a_key_in_a_block_is_used_and_shown_nowhere(
    env: dict[str, str], provider: OpenAIServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_command: bool
) -> None:
    """Not in parameters, states, logs, artifacts, events and files, even if the provider's error repeats it."""
    provider.rule = lambda call: _wrong_key(call) if call.prompt.endswith("3") else None
    Secret(value=SecretStr(KEY)).save("openai-api-key", overwrite=True)
    try:
        if by_command:
            done = batch_llm(*RUN, folder=tmp_path, **env)
            said = [done.stdout, done.stderr]
        else:
            monkeypatch.setenv("BATCH_LLM_HOME", str(tmp_path))
            monkeypatch.setenv("OPENAI_BASE_URL", provider.base_url)
            said = [str(load_flow()(**JOB, return_state=True).message)]
    finally:
        Secret.delete("openai-api-key")
    assert provider.requests >= 1, said
    assert {call.headers["authorization"] for call in provider.calls} == {f"Bearer {KEY}"}
    (folder,) = tmp_path.glob(".batch-llm/summarize/*/plan.json")
    run_id = folder.parent.name
    eventually(lambda: "batch-llm.run." in json.dumps(_records_of(run_id)))
    told = json.dumps(_records_of(run_id))
    assert "***" in told, "what the provider repeated is there, without the key"
    files = [path for path in tmp_path.rglob("*") if path.is_file() and "prefect/" not in str(path)]
    texts = [told, *said, *(path.read_bytes().decode("utf-8", "replace") for path in files)]
    assert not [text[:200] for text in texts if KEY in text]


def test_a_databases_password_comes_from_a_block(env: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """In the variable of PostgreSQL's own client; a job without such a database reads no block."""
    monkeypatch.setenv("PGPASSWORD", "")
    job = BatchJob.parse({"source": "docs.jsonl", "prompt": "{text}", "output": "out.jsonl"})
    Secret(value=SecretStr(KEY)).save("pgpassword", overwrite=True)
    try:
        provide_password(job)
        assert not os.environ["PGPASSWORD"]
        provide_password(job.model_copy(update={"output": "postgresql://me@localhost/db#answers"}))
    finally:
        Secret.delete("pgpassword")
    assert os.environ["PGPASSWORD"] == KEY
    assert KEY not in redact(f"refused: {KEY}")


def _wrong_key(call: Call) -> Reply:
    return Reply(400, {"error": {"message": f"no such thing for {KEY}", "code": "invalid"}})


def _records_of(run_id: str) -> list[object]:
    """Return all records of a run on the server."""
    run = {"flow_runs": {"id": {"any_": [run_id]}}}
    resource = {"filter": {"resource": {"id": [f"batch-llm.run.{run_id}"]}}, "limit": 50}
    return [
        api("/flow_runs/filter", run),
        api("/task_runs/filter", run),
        api("/logs/filter", {"logs": {"flow_run_id": {"any_": [run_id]}}}),
        api("/artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [run_id]}}}),
        api("/events/filter", resource),
    ]
