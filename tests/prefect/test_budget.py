"""A run that has spent its budget: over several shards, in threads and in processes, and how it goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.prefect_server import eventually, rows
from tests.providers.servers import OpenAIServer

from .conftest import FlowOver, Serve
from .test_flow import api, events

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
    """What the provider would ask for all that it has answered."""
    return (server.input_tokens * PRICES["input_mtok"] + server.output_tokens * PRICES["output_mtok"]) / 1e6


DEAREST_CALL = 65 * (PRICES["input_mtok"] + PRICES["output_mtok"]) / 1e6


def spent_it(state: Any, provider: OpenAIServer, budget: float) -> float:
    """See that the budget was spent, and exceeded by the calls in flight at most; return what was paid."""
    assert (state.name, state.type.value) == ("BudgetReached", "CANCELLED"), state.message
    paid = bill(provider)
    assert budget - WORKERS * DEAREST_CALL <= paid <= budget + WORKERS * DEAREST_CALL
    return paid


def test_a_run_ends_when_its_budget_is_used_up_and_goes_on_when_it_is_raised(
    run: Any, provider: OpenAIServer, tmp_path: Path
) -> None:
    """Its state is its own, and no retry's; a month's budget counts what it has spent; nothing is paid twice."""
    state = run(budget_usd=4.0)
    paid = spent_it(state, provider, 4.0)
    assert f"budget_usd of $4.00 is used up (${paid:,.2f} spent): raise it and run it again to go on" in state.message
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


def test_shards_in_processes_share_a_budget_without_a_lock(run: Any, provider: OpenAIServer) -> None:
    spent_it(run(budget_usd=4.0, runner="processes", runner_options={"processes": 2}), provider, 4.0)


def _if_all(found: list[Any], count: int) -> list[Any]:
    return found if len(found) == count else []
