"""Budgets of a job and their spending as recorded in the ledger: USD and tokens of a run, USD of a month."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime

import duckdb

from batch_llm.errors import JobError
from batch_llm.jobs.budget_types import BudgetStatus, Scope, Spent, Unit
from batch_llm.jobs.job import BatchJob
from batch_llm.jobs.ledger.record_views import view_records
from batch_llm.jobs.ledger.records import record_files
from batch_llm.jobs.ledger.run_folder import RunFolder
from batch_llm.jobs.storage.duckdb_session import Tables, open_tables
from batch_llm.jobs.storage.store import Store

from .prices import prices_of

_BUDGETS: dict[str, tuple[Scope, Unit]] = {
    "budget_usd": ("run", "usd"),
    "budget_tokens": ("run", "tokens"),
    "monthly_budget_usd": ("month", "usd"),
}


def check_budget(job: BatchJob, *, own_strategy: bool) -> None:
    """Check that a budget in USD can be enforced.

    Raises:
        JobError: The price of a call is not known.
    """
    setting = "budget_usd" if job.budget_usd is not None else "monthly_budget_usd"
    if getattr(job, setting) is not None and prices_of(job, own_strategy=own_strategy).cost({}) is None:
        model = "the strategy" if own_strategy else f"model {job.model!r}"
        raise JobError(f"{setting} needs a price, and the price of {model} is not known: set prices, or budget_tokens")


def budgets_of(job: BatchJob) -> dict[str, float]:
    """Return the budgets of a job by the name of the setting."""
    return {name: value for name in _BUDGETS if (value := getattr(job, name)) is not None}


def read_budget_status(job: BatchJob, run: RunFolder) -> list[BudgetStatus]:
    """Return the status of a job's budgets, with the spending in the records of the ledger.

    Raises:
        JobError: The ledger cannot be read.
    """
    return budget_status_of(budgets_of(job), run.store)


def budget_status_of(budgets: Mapping[str, float], run: Store) -> list[BudgetStatus]:
    """Return the status of budgets, with the spending in the records of a run and of all runs of its job.

    Raises:
        JobError: The ledger cannot be read.
    """
    if not budgets:
        return []
    this_month = f"finished_at >= '{datetime.now(UTC):%Y-%m}-01 00:00:00+00'::TIMESTAMPTZ"
    try:
        with open_tables() as tables:
            spent = {"run": _spent(tables, run, "ledger/*.jsonl")}
            if any(_BUDGETS[name][0] == "month" for name in budgets):
                spent["month"] = _spent(tables, run.parent, "*/ledger/*.jsonl", this_month)
    except (OSError, duckdb.Error) as error:
        raise JobError(f"ledger {run.address} cannot be read for the budget: {error}") from error
    known = [(name, *_BUDGETS[name], most) for name, most in budgets.items()]
    return [BudgetStatus(name, scope, unit, most, getattr(spent[scope], unit)) for name, scope, unit, most in known]


def _spent(tables: Tables, store: Store, files: str, where: str = "true") -> Spent:
    view_records(tables, store, record_files(store, files), view=(view := f"records_{uuid.uuid4().hex}"))
    (spent,) = tables.execute(
        f"SELECT coalesce(sum(cost_usd), 0), coalesce(sum(input_tokens + output_tokens), 0) FROM {view} WHERE {where}"
    ).fetchall()
    return Spent(float(spent[0]), int(spent[1]))
