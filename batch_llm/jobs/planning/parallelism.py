"""In how many processes a job's shards are worth to run, where the job does not say."""

from __future__ import annotations

import math

from batch_llm.jobs.cpu import cores
from batch_llm.jobs.job import LOCAL, BatchJob

WORKERS_PER_PROCESS = 50
"""Calls at once that are worth a process: with answers in a second and less, a core carries some hundred a second."""

ITEMS_PER_PROCESS = 500
"""Items that are worth one: it takes some seconds of a core to start, in which the core carries as many."""

DEFAULT_REMOTE_PROCESSES = 32
"""Of workers and clusters whose size nobody knows before they carry something: rather too many than too few."""


def processes_for(job: BatchJob, shards: int, items: int, *, calls_model: bool = True) -> int:
    """Return how many are worth it here: by the cores, the workers, the limit, and what there is to do.

    The local model has the cores to itself, where it is what is called.
    """
    if calls_model and job.model == LOCAL:
        return 1
    wanted = math.ceil(job.config.max_workers / WORKERS_PER_PROCESS)
    if job.limits.requests_per_minute is not None:
        wanted = min(wanted, math.ceil(job.limits.requests_per_minute / 60 / WORKERS_PER_PROCESS))
    return max(1, min(cores(), wanted, shards, items // ITEMS_PER_PROCESS))


def expected_processes(job: BatchJob, items: int, *, calls_model: bool = True) -> int:
    """Return how many will carry a run's shards, as far as a plan can know: one has an item and a worker."""
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
"""A shard is worth some minutes: Prefect's own cost is small beside it, and a retry or a lost machine is cheap."""

DEFAULT_ITEM_SECONDS = 2.0
"""Where no earlier run tells."""

LEAST, MOST = 100, 50_000
"""Fewer items are not worth a task run; more are not worth the memory, for a shard knows which of its items it has."""

MAX_SHARDS = 500
"""Each is a task run, a file of progress, a reference in the plan, and 29 kB of Prefect's database."""

SHARDS_PER_PROCESS = 4
"""At least, so that none of several is idle for long while the others end."""

ITEMS_PER_WORKER = 10
"""At least, where there are as many: workers are idle while the last answers of their shard come."""


def shard_size(
    items: int, *, workers: int, processes: int = 1, seconds: float | None = None, per_second: float | None = None
) -> int:
    """Return how many items a shard has that takes some minutes, or more where there would be too many of them.

    Args:
        items: To be called.
        workers: Calls at once in the whole run.
        processes: Shards at once, at the most.
        seconds: Of an item, in the mean; None where it is not known.
        per_second: Items a second that the provider allows; None where it is not known.
    """
    fastest = workers / max(seconds or DEFAULT_ITEM_SECONDS, 0.001)
    pace = min(fastest, per_second or fastest) / processes
    per_process = math.ceil(items / (SHARDS_PER_PROCESS * processes)) if processes > 1 else items
    fewest = math.ceil(items / max(MAX_SHARDS, SHARDS_PER_PROCESS * processes))
    filled = math.ceil(min(ITEMS_PER_WORKER * workers, items) / processes)
    return max(LEAST, min(MOST, max(fewest, filled, min(math.ceil(pace * TARGET_SHARD_SECONDS), per_process))))


def suitable_size(job: BatchJob, items: int, seconds: float | None, *, calls_model: bool = True) -> int:
    """Return what suits a job that says no size: by its items, its workers, its limit, and who carries them."""
    allowed = job.limits.requests_per_minute
    return shard_size(
        items,
        workers=job.config.max_workers,
        processes=expected_processes(job, items, calls_model=calls_model),
        seconds=seconds,
        per_second=allowed / 60 if allowed else None,
    )
