"""A batch as data: a job, its plan, its shards, its ledger, its output. Knows neither Prefect nor a network."""

# The functions `plan`, `run_shard` and `merge` take the place of the modules they come from: import names from here.
from .budget import Budget
from .check import check
from .folder import RunFolder, StopKind, anchored, ask_to_stop, job_store, run_folder, tell_waiting
from .given import Items, with_items
from .governing import governed, guessed_output_tokens, scope_of
from .history import Night, drifts, read_nights
from .job import BatchJob
from .lease import hold
from .merge import Summary, merge
from .models import LOCAL
from .outcomes import result_rows
from .plan import Plan, ShardRef, plan
from .progress import Progress, ProgressReader, read_progress
from .project import home, project_folder, resolve
from .purse import Share, Spent
from .run_shard import ShardOutcome, run_shard
from .runner import RunnerName, RunnerOptions
from .shared_budget import SharedBudget
from .spending import Limit, read_limits
from .stats import RunStats, Slice, run_stats

__all__ = [
    "LOCAL",
    "BatchJob",
    "Budget",
    "Items",
    "Limit",
    "Night",
    "Plan",
    "Progress",
    "ProgressReader",
    "RunFolder",
    "RunStats",
    "RunnerName",
    "RunnerOptions",
    "ShardOutcome",
    "ShardRef",
    "Share",
    "SharedBudget",
    "Slice",
    "Spent",
    "StopKind",
    "Summary",
    "anchored",
    "ask_to_stop",
    "check",
    "drifts",
    "governed",
    "guessed_output_tokens",
    "hold",
    "home",
    "job_store",
    "merge",
    "plan",
    "project_folder",
    "read_limits",
    "read_nights",
    "read_progress",
    "resolve",
    "result_rows",
    "run_folder",
    "run_shard",
    "run_stats",
    "scope_of",
    "tell_waiting",
    "with_items",
]
