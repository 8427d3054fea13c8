"""Default number of processes and default size of shards of a job."""

from __future__ import annotations

import math

from batch_llm.jobs.cpu import cores
from batch_llm.jobs.job import LOCAL, BatchJob

WORKERS_PER_PROCESS = 50
"""Concurrent calls per process: with answers within a second, a core handles a few hundred calls per second."""

ITEMS_PER_PROCESS = 500
"""Minimum items per process: starting a process takes as much CPU as this number of calls."""

DEFAULT_REMOTE_PROCESSES = 32
"""Assumed number of processes of work pools and clusters of unknown size; too many is better than too few."""


def processes_for(job: BatchJob, shards: int, items: int, *, calls_model: bool = True) -> int:
    """Return the useful number of processes on this machine, from its cores, the workers, the limit and the items.

    A job that calls the local model runs in one process, because the model uses the cores itself.
    """
    if calls_model and job.model == LOCAL:
        return 1
    wanted = math.ceil(job.config.max_workers / WORKERS_PER_PROCESS)
    if job.limits.requests_per_minute is not None:
        wanted = min(wanted, math.ceil(job.limits.requests_per_minute / 60 / WORKERS_PER_PROCESS))
    return max(1, min(cores(), wanted, shards, items // ITEMS_PER_PROCESS))


def expected_processes(job: BatchJob, items: int, *, calls_model: bool = True) -> int:
    """Return the expected number of processes that run shards; each has at least one item and one worker."""
    options = job.runner_options
    match job.runner:
        case "auto":
            return processes_for(job, items, items, calls_model=calls_model)
        case "threads":
            return 1
        case "pool":
            room = DEFAULT_REMOTE_PROCESSES
        case "processes" | "dask" | "ray":
            room = DEFAULT_REMOTE_PROCESSES if options.address else cores()
    return max(1, min(options.processes or room, job.config.max_workers, items))


TARGET_SHARD_SECONDS = 180.0
"""Target duration of a shard: long compared to Prefect's overhead, short enough that repeating it is cheap."""

DEFAULT_ITEM_SECONDS = 2.0
"""Assumed duration of an item if there is no earlier run."""

LEAST, MOST = 100, 50_000
"""Minimum and maximum items per shard: fewer do not justify a task run, and each item of a shard takes memory."""

MAX_SHARDS = 500
"""Preferred maximum number of shards: each is a task run, a progress file, a reference in the plan and 29 kB of
Prefect's database."""

SHARDS_PER_PROCESS = 4
"""Minimum shards per process, so that no process is idle for long while the others finish."""

ITEMS_PER_WORKER = 10
"""Minimum items per worker in a shard, because workers are idle while a shard waits for its last answers."""


def shard_size(
    items: int, *, workers: int, processes: int = 1, seconds: float | None = None, per_second: float | None = None
) -> int:
    """Return the number of items per shard so that a shard takes a few minutes, or more to limit their number.

    Args:
        items: Number of items to call.
        workers: Concurrent calls in the whole run.
        processes: Maximum number of shards at once.
        seconds: Average duration of an item; None if it is not known.
        per_second: Items per second that the provider allows; None if it is not known.
    """
    fastest = workers / max(seconds or DEFAULT_ITEM_SECONDS, 0.001)
    pace = min(fastest, per_second or fastest) / processes
    per_process = math.ceil(items / (SHARDS_PER_PROCESS * processes)) if processes > 1 else items
    fewest = math.ceil(items / max(MAX_SHARDS, SHARDS_PER_PROCESS * processes))
    filled = math.ceil(min(ITEMS_PER_WORKER * workers, items) / processes)
    return max(LEAST, min(MOST, max(fewest, filled, min(math.ceil(pace * TARGET_SHARD_SECONDS), per_process))))


def shard_size_of(job: BatchJob, items: int, seconds: float | None, *, calls_model: bool = True) -> int:
    """Return the shard size for a job without shard_size, from its items, workers, limit and runner."""
    allowed = job.limits.requests_per_minute
    return shard_size(
        items,
        workers=job.config.max_workers,
        processes=expected_processes(job, items, calls_model=calls_model),
        seconds=seconds,
        per_second=allowed / 60 if allowed else None,
    )
