"""Canaries: the first items of a new job run alone, and end the run if they show that it does not work."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.prefect.conftest import FlowOver, Serve
from tests.support.prefect_server import rows
from tests.support.servers import Call, OpenAIServer, Reply

pytestmark = pytest.mark.prefect

DOCUMENTS, CANARY = 400, 20
LONG = "word " * 200


def answer(call: Call) -> Reply | None:
    """Refuse prompts that contain "Recite" as too long, and give a long answer to those that contain "Explain"."""
    if "Recite" in call.prompt:
        return OpenAIServer.too_long()
    return OpenAIServer.text(LONG) if "Explain" in call.prompt else None


@pytest.fixture
def provider(serve: Serve) -> OpenAIServer:
    return serve(rule=answer)


@pytest.fixture
def run(flow_over: FlowOver) -> Any:
    """Run the flow over 400 documents."""
    return flow_over(
        (f"document {number}" for number in range(DOCUMENTS)),
        name="careful",
        model="openai-chat:gpt-4.1-mini",
        shard_size=200,
        config={"max_workers": 50},
        limits={"requests_per_minute": 600_000},
    )


def shards(state: Any, home: Path) -> list[int]:
    """Return the number of items of each shard of a run."""
    plan = home / ".batch-llm" / "careful" / str(state.state_details.flow_run_id) / "plan.json"
    return [shard["items"] for shard in json.loads(plan.read_text())["shards"]]


def test_failed_canary_ends_the_run_and_a_working_job_has_one_canary(
    run: Any, provider: OpenAIServer, tmp_path: Path
) -> None:
    """Of 400 items 20 are called; the output is written; the next run of a working job has no canary."""
    state = run(prompt="Recite {text}")
    assert (provider.requests, state.type.value) == (CANARY, "FAILED")
    assert "20 failed of the canary of 20 items (20 " in state.message
    assert "more than failure_threshold=0.1 allows, so no other item was called" in state.message
    assert "canary=0" in state.message
    assert [row["status"] for row in rows(tmp_path / "out.jsonl")].count("not_attempted") == DOCUMENTS - CANARY
    assert len(rows(tmp_path / "out.failures.jsonl")) == CANARY

    assert run(prompt="Recite {text}").is_failed()
    assert provider.requests == 2 * CANARY, "nothing was changed, so the canary goes first again"

    state = run(prompt="Sum up {text}", limit=30, canary=2)
    assert state.is_completed(), state.message
    assert (provider.requests, shards(state, tmp_path)) == (2 * CANARY + 30, [2, 28])
    state = run(prompt="Sum up {text}", limit=60, canary=2)
    assert (provider.requests, shards(state, tmp_path)) == (2 * CANARY + 60, [30])


@pytest.mark.whole
def test_a_run_ends_when_its_canary_costs_far_more_than_earlier_runs(run: Any, provider: OpenAIServer) -> None:
    """A changed prompt with long answers is stopped after 20 calls, with the expected cost in the message."""
    assert run(prompt="Sum up {text}", limit=CANARY).is_completed()
    state = run(prompt="Explain {text}")
    assert (provider.requests, state.type.value) == (2 * CANARY, "FAILED")
    assert re.search(
        r"the canary of 20 items cost \$0\.\d+, but \$0\.\d+ was expected from earlier runs", state.message
    )
    assert "look at its answers, then change the job, or set canary=0" in state.message
