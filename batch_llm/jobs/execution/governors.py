"""Which governor paces a job's calls: one for each scope and process."""

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
"""A pool's process keeps a governor so long after a shard, for the next one goes on at the same pace."""


@dataclass(slots=True)
class _Entry:
    governor: Governor
    users: int = 0
    kept_until: float = 0.0


_entries: dict[str, _Entry] = {}
_lock = Lock()


def scope_of(job: BatchJob) -> str:
    """Return the name of the limit that the job's calls share with others: the model's, unless the job says another."""
    return job.limit_scope or job.model


@contextmanager
def governed(job: BatchJob, *, lingers: bool = False) -> Generator[Governor]:
    """Have the governor of the job's scope, the same one for everybody in this process who has it meanwhile.

    Args:
        job: The job.
        lingers: Whether this process is likely to have another shard of the scope soon.
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
