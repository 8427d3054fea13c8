"""Governors that pace the calls of jobs: one per scope and process."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock

from batch_llm.jobs.job import BatchJob
from batch_llm.jobs.spending.calibration import guessed_output_tokens
from batch_llm.pacing.governor import Governor

LINGER_SECONDS = 15.0
"""How long a pool process keeps a governor after a shard, so that the next shard continues at the same rate."""


@dataclass(slots=True)
class _Entry:
    governor: Governor
    users: int = 0
    kept_until: float = 0.0


_entries: dict[str, _Entry] = {}
_lock = Lock()


def scope_of(job: BatchJob) -> str:
    """Return the rate-limit scope of a job: its `limit_scope`, else its model."""
    return job.limit_scope or job.model


@contextmanager
def governed(job: BatchJob, *, lingers: bool = False) -> Generator[Governor]:
    """Provide the governor of a job's scope, which all jobs of the scope in this process share.

    Args:
        job: The job.
        lingers: Whether to keep the governor for a while afterwards, for the next shard of the scope.

    Example:
        >>> with governed(job) as governor:
        ...     outcome = await run_shard(job, folder, shard, governor=governor)  # doctest: +SKIP
    """
    scope = scope_of(job)
    with _lock:
        entry = _entries.get(scope)
        if entry is None or not (entry.users or time.monotonic() < entry.kept_until):
            entry = _entries[scope] = _Entry(Governor(job.limits, output_tokens=guessed_output_tokens(job)))
        entry.users += 1
    entry.governor.set_limits(job.limits)
    try:
        yield entry.governor
    finally:
        with _lock:
            entry.users -= 1
            if lingers:
                entry.kept_until = time.monotonic() + LINGER_SECONDS
            elif not entry.users:
                _entries.pop(scope, None)
