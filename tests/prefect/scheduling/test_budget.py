"""Runs that use up their budget, over several shards in threads, processes and a pool, and their continuation."""

from __future__ import annotations

import json
import re
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from batch_llm.jobs.storage.store import Store
from tests.prefect.conftest import FlowOver, Serve
from tests.prefect.test_flow import api, events
from tests.support.prefect_server import eventually, rows
from tests.support.processes import DeployedRun, background, user_environment
from tests.support.processes import run as command
from tests.support.servers import OpenAIServer

pytestmark = pytest.mark.prefect

PRICES = {"input_mtok": 1000.0, "output_mtok": 3000.0}
WORKERS = 4
DOCUMENTS = 80


@pytest.fixture
def provider(serve: Serve) -> OpenAIServer:
    return serve(latency=0.02)


@pytest.fixture
def run(flow_over: FlowOver) -> Any:
    """Run the flow over documents of very different lengths, in four shards."""
    return flow_over(
        (f"d{place} " + "word " * (5 + 13 * place % 60) for place in range(DOCUMENTS)),
        retries=2,
        name="thrifty",
        prompt="{text}",
        model="openai-chat:my-model",
        prices=PRICES,
        shard_size=DOCUMENTS // 4,
        config={"max_workers": WORKERS, "retry": {"max_attempts": 1}},
        shard_retry={"max_attempts": 1},
    )


def bill(server: OpenAIServer) -> float:
    """Return the price of all answers of the provider."""
    return (server.input_tokens * PRICES["input_mtok"] + server.output_tokens * PRICES["output_mtok"]) / 1e6


DEAREST_CALL = 65 * (PRICES["input_mtok"] + PRICES["output_mtok"]) / 1e6


def check_budget_is_used_up(state: Any, provider: OpenAIServer, budget: float) -> float:
    """Check that the budget is used up and exceeded by at most the calls in flight, and return the cost."""
    assert (state.name, state.type.value) == ("BudgetReached", "CANCELLED"), state.message
    paid = bill(provider)
    assert budget - WORKERS * DEAREST_CALL <= paid <= budget + WORKERS * DEAREST_CALL
    return paid


def test_run_ends_when_its_budget_is_used_up_and_continues_with_a_larger_one(
    run: Any, provider: OpenAIServer, tmp_path: Path
) -> None:
    """The run has its own state and no retry; a monthly budget includes its cost; nothing is paid twice."""
    state = run(budget_usd=4.0)
    paid = check_budget_is_used_up(state, provider, 4.0)
    assert f"budget_usd of $4.00 is used up (${paid:,.2f} spent): raise it and run again to continue" in state.message
    flow_run = api("/flow_runs/filter", {"flow_runs": {"id": {"any_": [str(state.state_details.flow_run_id)]}}})[0]
    assert (flow_run["run_count"], flow_run["state_name"]) == (1, "BudgetReached")
    missing = [row["id"] for row in rows(tmp_path / "out.jsonl") if row["status"] == "not_attempted"]
    names = ["batch-llm.budget.warning", "batch-llm.budget.exhausted"]
    told = eventually(lambda: _if_all([e for e in events(state) if e["event"] in names], 2))
    assert {(each["payload"]["scope"], each["payload"]["unit"], each["payload"]["budget"]) for each in told} == {
        ("run", "usd", 4.0)
    }

    calls = provider.requests
    state = run(monthly_budget_usd=paid)
    assert "monthly_budget_usd of $" in state.message
    assert (state.name, provider.requests) == ("BudgetReached", calls)

    state = run(budget_usd=100.0)
    assert state.is_completed()
    assert provider.requests == calls + len(missing) == DOCUMENTS


@pytest.mark.whole
def test_shards_in_processes_share_a_budget_without_a_lock(run: Any, provider: OpenAIServer) -> None:
    check_budget_is_used_up(run(budget_usd=4.0, runner="processes", runner_options={"processes": 2}), provider, 4.0)


@pytest.mark.whole
def test_machines_of_a_pool_share_a_budget_and_continue_with_a_larger_one(
    prefect_api: str, provider: OpenAIServer, tmp_path: Path
) -> None:
    """Neither machine starts a call after the budget is used up, and each has run some shards."""
    provider.latency = 15.0  # until both are at work: one alone must not be through before the other has begun
    docs = [{"id": f"d{place}", "text": f"d{place} " + "word " * (5 + 13 * place % 60)} for place in range(DOCUMENTS)]
    (tmp_path / "docs.jsonl").write_text("".join(json.dumps(doc) + "\n" for doc in docs))
    job: dict[str, Any] = {
        "name": "pooled",
        "source": "docs.jsonl",
        "output": "out.jsonl",
        "prompt": "{text}",
        "runner": "pool",
        "model": "openai-chat:my-model",
        "prices": PRICES,
        "shard_size": 5,
        "output_schema": None,
        "config": {"max_workers": WORKERS},
        "runner_options": {"processes": 2},
        "ledger": str(tmp_path / "ledger"),
    }
    env = {**user_environment(tmp_path, prefect_api), "PREFECT_WORKER_QUERY_SECONDS": "1"}
    command("batch-llm", "deploy", "summarize", "--pool", "budget-pool", env=env, cwd=tmp_path)
    with ExitStack() as machines:
        for name in ("one", "two"):
            start = ("prefect", "worker", "start", "--pool", "budget-pool", "--limit", "1", "--name", name)
            machines.enter_context(background(*start, env=env, cwd=tmp_path))
        pooled = DeployedRun(**job, budget_usd=4.0)
        claims = Store(str(tmp_path / "ledger" / "pooled" / str(pooled.id)))
        eventually(lambda: len({claims.read(name) for name in claims.names("claims/*.000001.json")}) == 2, seconds=180)
        provider.latency = 0.02
        state = pooled.end()
        check_budget_is_used_up(state, provider, 4.0)
        calls = provider.requests
        assert "budget_usd of $4.00 is used up" in state.message
        assert sum(row["status"] == "succeeded" for row in rows(tmp_path / "out.jsonl")) == calls
        carriers = api("/flow_runs/filter", {"flows": {"name": {"any_": ["batch-llm-shards"]}}})
        (said,) = [run["state"]["message"] for run in carriers if run["parameters"]["run_id"] == str(pooled.id)]
        assert re.match(r"Ran [1-9]\d* shards; ", said)
        told = eventually(lambda: _if_all([e for e in events(state) if "batch-llm.budget" in e["event"]], 2))
        assert {each["event"] for each in told} == {"batch-llm.budget.warning", "batch-llm.budget.exhausted"}

        assert DeployedRun(**job, budget_usd=100.0).end().is_completed()
        assert provider.requests == DOCUMENTS


def _if_all(found: list[Any], count: int) -> list[Any]:
    return found if len(found) == count else []
