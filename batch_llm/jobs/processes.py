"""In how many processes a job's shards are worth to run, where the job does not say."""

from __future__ import annotations

import math

from .cores import cores
from .job import BatchJob
from .models import LOCAL

WORKERS_A_PROCESS = 50
"""Calls at once that are worth a process: with answers in a second and less, a core carries some hundred a second."""

ITEMS_A_PROCESS = 500
"""Items that are worth one: it takes some seconds of a core to start, in which the core carries as many."""

PROCESSES_ELSEWHERE = 32
"""Of workers and clusters whose size nobody knows before they carry something: rather too many than too few."""


def processes_for(job: BatchJob, shards: int, items: int, *, calls_model: bool = True) -> int:
    """Return how many are worth it here: by the cores, the workers, the limit, and what there is to do.

    The local model has the cores to itself, where it is what is called.
    """
    if calls_model and job.model == LOCAL:
        return 1
    wanted = math.ceil(job.config.max_workers / WORKERS_A_PROCESS)
    if job.limits.requests_per_minute is not None:
        wanted = min(wanted, math.ceil(job.limits.requests_per_minute / 60 / WORKERS_A_PROCESS))
    return max(1, min(cores(), wanted, shards, items // ITEMS_A_PROCESS))


def expected_processes(job: BatchJob, items: int, *, calls_model: bool = True) -> int:
    """Return how many will carry a run's shards, as far as a plan can know: one has an item and a worker."""
    options = job.runner_options
    match job.runner:
        case "auto":
            return processes_for(job, items, items, calls_model=calls_model)
        case "threads":
            return 1
        case "pool":
            room = PROCESSES_ELSEWHERE
        case "processes" | "dask" | "ray":
            room = PROCESSES_ELSEWHERE if options.address else cores()
    return max(1, min(options.processes or room, job.config.max_workers, items))
