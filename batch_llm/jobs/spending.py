"""What a job may spend, and what it has spent: USD and tokens of a run, USD of a month."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias

import duckdb

from batch_llm.errors import JobError

from .folder import RunFolder, job_store
from .job import BatchJob
from .ledger import record_files, view_records
from .prices import prices_of
from .store import Store
from .tables import Tables, open_tables

Unit: TypeAlias = Literal["usd", "tokens"]
Scope: TypeAlias = Literal["run", "month"]


@dataclass(frozen=True, slots=True)
class Limit:
    """One budget of a job, and what is spent of it.

    Attributes:
        setting: What sets it.
        scope: Of one run, or of all runs of the job's name in this calendar month (UTC).
        unit: What it counts; tokens are those sent and received together.
        budget: How much may be spent.
        spent: How much is.
    """

    setting: str
    scope: Scope
    unit: Unit
    budget: float
    spent: float

    @property
    def left(self) -> float:
        """How much is left; never below 0."""
        return max(0.0, self.budget - self.spent)

    def as_json(self) -> dict[str, Any]:
        """Return it for an event, a summary, a program."""
        own = {name: getattr(self, name) for name in ("setting", "scope", "unit", "budget", "spent")}
        return {**own, "left": self.left}


def check_budget(job: BatchJob, *, own_strategy: bool) -> None:
    """See that a budget in USD can be kept.

    Raises:
        JobError: Nobody knows what a call costs.
    """
    setting = "budget_usd" if job.budget_usd is not None else "monthly_budget_usd"
    if getattr(job, setting) is not None and prices_of(job, own_strategy=own_strategy).cost({}) is None:
        model = "the strategy" if own_strategy else f"model {job.model!r}"
        raise JobError(f"{setting} cannot be kept, for the price of {model} is not known: set prices, or budget_tokens")


def read_limits(job: BatchJob, run: RunFolder) -> list[Limit]:
    """Return the job's budgets, with what the ledger's records say is spent of them.

    Raises:
        JobError: The ledger cannot be read.
    """
    store, month = job_store(job), 0.0
    if job.budget_usd is None and job.budget_tokens is None and job.monthly_budget_usd is None:
        return []
    try:
        with open_tables() as tables:
            usd, tokens = _spent(tables, store, f"{run.path.name}/ledger/*.jsonl")
            if job.monthly_budget_usd is not None:
                this_month = f"finished_at >= '{datetime.now(UTC):%Y-%m}-01 00:00:00+00'::TIMESTAMPTZ"
                month, _ = _spent(tables, store, "*/ledger/*.jsonl", this_month)
    except (OSError, duckdb.Error) as error:
        raise JobError(f"ledger {store.address} cannot be read for the budget: {error}") from error
    said: list[tuple[str, Scope, Unit, float | None, float]] = [
        ("budget_usd", "run", "usd", job.budget_usd, usd),
        ("budget_tokens", "run", "tokens", job.budget_tokens, tokens),
        ("monthly_budget_usd", "month", "usd", job.monthly_budget_usd, month),
    ]
    return [Limit(name, scope, unit, most, spent) for name, scope, unit, most, spent in said if most is not None]


def _spent(tables: Tables, store: Store, files: str, where: str = "true") -> tuple[float, int]:
    """Return the USD and the tokens of some records."""
    view_records(tables, store, record_files(store, files), view=(view := f"records_{uuid.uuid4().hex}"))
    (spent,) = tables.execute(
        f"SELECT coalesce(sum(cost_usd), 0), coalesce(sum(input_tokens + output_tokens), 0) FROM {view} WHERE {where}"
    ).fetchall()
    return float(spent[0]), int(spent[1])
