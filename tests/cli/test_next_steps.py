"""At the end of a run the command suggests the next command."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from batch_llm.cli.actions.run import RunRequest, next_steps, state_name
from batch_llm.cli.presets import Preset
from batch_llm.cli.terminal.screen import Screen
from batch_llm.prefect.flow_channel import FlowState
from tests.support.jobs import job

from .test_report import SUMMARY

GOOD = replace(SUMMARY, total_items=10, succeeded=10, failed=0, not_attempted=0, stopped="", categories={})
COMMAND = "batch-llm run tickets --source 'a b.csv'"


@pytest.fixture
def order(monkeypatch: pytest.MonkeyPatch) -> RunRequest:
    monkeypatch.delenv("UV_RUN_RECURSION_DEPTH", raising=False)
    return RunRequest(Preset("tickets", {"name": "inbox"}, {}, Path("batch-llm.yaml")), {}, Screen(), COMMAND)


@pytest.mark.parametrize(
    ("changes", "lines"),
    [
        ({}, []),
        (
            {"succeeded": 8, "failed": 2},
            [
                "To see the failed items: batch-llm results inbox",
                f"To retry only these: {COMMAND} --only-failed",
            ],
        ),
        (
            {"succeeded": 5, "failed": 1, "not_attempted": 4, "stopped": "stopped by cancellation in the UI"},
            [f"To continue (finished items are not charged again): {COMMAND}"],
        ),
        (
            {"succeeded": 0, "failed": 1, "not_attempted": 9, "stopped": "the key is refused"},
            [f"To continue (finished items are not charged again): {COMMAND}"],
        ),
        (
            {
                "not_attempted": 4,
                "stopped": "budget_usd of $4.00 is used up ($4.01 spent): raise it",
                "budgets": [{"setting": "monthly_budget_usd"}, {"setting": "budget_usd"}],
            },
            [f"To continue (finished items are not charged again), raise budget_usd: {COMMAND}"],
        ),
    ],
    ids=["all good", "some failed", "stopped", "bad key", "budget"],
)
def test_each_outcome_names_the_next_command(order: RunRequest, changes: dict[str, Any], lines: list[str]) -> None:
    assert next_steps(order, replace(GOOD, **changes)) == lines


def test_only_failed_is_suggested_once(order: RunRequest) -> None:
    again = replace(order, command=f"{COMMAND} --only-failed")
    assert next_steps(again, replace(GOOD, failed=1))[1].count("--only-failed") == 1


def test_a_completed_demo_suggests_a_next_step(order: RunRequest) -> None:
    assert next_steps(replace(order, next_step="batch-llm run x"), GOOD) == ["Next: batch-llm run x"]


def test_the_suggested_command_names_the_job_and_its_ledger(order: RunRequest, tmp_path: Path) -> None:
    """The job may have another name than its preset, or another ledger."""
    failed = replace(GOOD, failed=1)
    here = {"name": "mine", "ledger": str(Path.cwd() / ".batch-llm")}
    assert next_steps(replace(order, parameters=here), failed)[0] == "To see the failed items: batch-llm results mine"
    there = {"ledger": f"{tmp_path}/my ledger"}
    line = f"To see the failed items: batch-llm results inbox --ledger '{tmp_path}/my ledger'"
    assert next_steps(replace(order, parameters=there), failed)[0] == line


@pytest.mark.parametrize(
    ("changes", "on_server", "name"),
    [
        ({}, FlowState("COMPLETED"), "completed"),
        ({"succeeded": 9, "failed": 1}, FlowState("COMPLETED"), "completed"),
        ({"succeeded": 8, "failed": 2}, FlowState("FAILED"), "failed"),
        (
            {"not_attempted": 4, "stopped": "budget_usd of $4.00 is used up"},
            FlowState("CANCELLED", "BudgetReached"),
            "stopped",
        ),
        ({"not_attempted": 4, "stopped": "stopped by cancellation in the UI"}, FlowState("CANCELLED"), "cancelled"),
        ({"not_attempted": 4, "stopped": "stopped by Ctrl-C"}, None, "cancelled"),
        ({}, FlowState("CRASHED"), "crashed"),
        ({}, FlowState("FAILED"), "failed"),
    ],
)
def test_a_program_reads_the_state_that_status_shows(
    changes: dict[str, Any], on_server: FlowState | None, name: str
) -> None:
    assert state_name(job(), replace(GOOD, **changes), on_server) == name
