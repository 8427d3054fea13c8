"""A batch as data: the job, its plan, its shards, its ledger and its output.

A `BatchJob` comes in; output files and the answers in the ledger go out. It does not import `batch_llm.prefect`.
"""

# The functions `plan`, `run_shard` and `merge` take the place of the modules they come from: import names from here.
from .budget_types import BudgetShare, BudgetStatus, Spent
from .execution.governors import governed, scope_of
from .execution.run_shard import run_shard
from .job import LOCAL, BatchJob
from .ledger.lease import hold_lease
from .ledger.progress import Progress, ProgressReader, read_progress, record_publishing
from .ledger.run_folder import (
    RunFolder,
    StopKind,
    job_store,
    publish_waiting,
    request_stop,
    run_folder,
    with_absolute_paths,
)
from .ledger.shard_progress import record_retry
from .planning.inline_items import Items, with_items
from .planning.plan import plan
from .planning.preflight import check, setting_warnings, source_warnings
from .results.history import PastRun, drifts, read_past_runs
from .results.merge import merge
from .results.outcomes import result_rows
from .results.stats import RunStats, Slice, SlowItem, run_stats
from .run_types import Plan, ShardOutcome, ShardRef, Summary
from .runner_options import RunnerName, RunnerOptions
from .spending.allocation import BudgetAllocator
from .spending.budgets import read_budget_status
from .spending.calibration import guessed_output_tokens
from .spending.shared_allocation import JournaledAllocator
from .storage.paths import home, project_folder, resolve

__all__ = [
    "LOCAL",
    "BatchJob",
    "BudgetAllocator",
    "BudgetShare",
    "BudgetStatus",
    "Items",
    "JournaledAllocator",
    "PastRun",
    "Plan",
    "Progress",
    "ProgressReader",
    "RunFolder",
    "RunStats",
    "RunnerName",
    "RunnerOptions",
    "ShardOutcome",
    "ShardRef",
    "Slice",
    "SlowItem",
    "Spent",
    "StopKind",
    "Summary",
    "check",
    "drifts",
    "governed",
    "guessed_output_tokens",
    "hold_lease",
    "home",
    "job_store",
    "merge",
    "plan",
    "project_folder",
    "publish_waiting",
    "read_budget_status",
    "read_past_runs",
    "read_progress",
    "record_publishing",
    "record_retry",
    "request_stop",
    "resolve",
    "result_rows",
    "run_folder",
    "run_shard",
    "run_stats",
    "scope_of",
    "setting_warnings",
    "source_warnings",
    "with_absolute_paths",
    "with_items",
]
