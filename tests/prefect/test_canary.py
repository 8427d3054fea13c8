"""A new job's first items go alone, and end the run where they show that it does not work."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.prefect.flow_file import load_flow
from tests.prefect_server import rows
from tests.providers.servers import Call, OpenAIServer, Reply

pytestmark = pytest.mark.prefect

DOCUMENTS, CANARY = 1000, 20


def answer(call: Call) -> Reply | None:
    """Too long is the prompt that says so."""
    return OpenAIServer.too_long() if "Recite" in call.prompt else None


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenAIServer]:
    with OpenAIServer(rule=answer) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "test-key-that-is-no-secret")
        yield server


@pytest.fixture
def run(prefect_api: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run the flow in this process over 1,000 documents; returns its last state."""
    monkeypatch.setenv("BATCH_LLM_HOME", str(tmp_path))
    docs = [{"id": f"d{number}", "text": f"document {number}"} for number in range(DOCUMENTS)]
    (tmp_path / "docs.jsonl").write_text("".join(json.dumps(doc) + "\n" for doc in docs))

    def call(**parameters: Any) -> Any:
        defaults: dict[str, Any] = {
            "name": "careful",
            "source": "docs.jsonl",
            "output": "out.jsonl",
            "model": "openai-chat:gpt-4.1-mini",
            "shard_size": 500,
            "config": {"max_workers": 50},
        }
        return load_flow()(**(defaults | parameters), return_state=True)

    return call


def shards(state: Any, home: Path) -> list[int]:
    """How many items each shard of a run had."""
    plan = home / ".batch-llm" / "careful" / str(state.state_details.flow_run_id) / "plan.json"
    return [shard["items"] for shard in json.loads(plan.read_text())["shards"]]


def test_a_run_ends_when_its_canary_fails_and_one_that_works_has_it_once(
    run: Any, provider: OpenAIServer, tmp_path: Path
) -> None:
    """Of 1,000 items 20 are called; what there is gets written; the next run with the same job goes at once."""
    state = run(prompt="Recite {text}")
    assert (provider.requests, state.type.value) == (CANARY, "FAILED")
    assert "20 failed of the canary of 20 items (20 " in state.message
    assert "more than failure_threshold=0.1 allows, so nothing else was called" in state.message
    assert "canary=0" in state.message
    assert [row["status"] for row in rows(tmp_path / "out.jsonl")].count("not_attempted") == DOCUMENTS - CANARY
    assert len(rows(tmp_path / "out.failures.jsonl")) == CANARY

    assert run(prompt="Recite {text}").is_failed()
    assert provider.requests == 2 * CANARY, "nothing was changed, so the canary goes first again"

    state = run(prompt="Sum up {text}", limit=300)
    assert state.is_completed(), state.message
    assert (provider.requests, shards(state, tmp_path)) == (2 * CANARY + 300, [20, 280])
    state = run(prompt="Sum up {text}", limit=600)
    assert (provider.requests, shards(state, tmp_path)) == (2 * CANARY + 600, [300])
