"""The lease of a job's ledger: one run at a time works on the ledger, and a dead process cannot keep the lease.

    <ledger>/<name>/lease/000000000007.json    the seventh lease: its owner, and a heartbeat counter

A run acquires the lease by creating the next file, which succeeds for exactly one of several runs on any file system.
The lease is over when its owner releases it, when the owner's process is dead (other processes on the same machine see
that at once), or when the heartbeat counter has not changed for a minute. The waiting process measures this minute
with its own clock, because clocks of machines may differ.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from batch_llm.errors import JobError
from batch_llm.jobs.storage.store import Store

from . import heartbeat
from .claims import await_runners
from .heartbeat import Owner, StalenessTimer, send_heartbeats

LEASES = "lease/*.json"
BEGAN = """CASE WHEN lease > 0 THEN max(planned_at) FILTER (lease > 0) OVER (ORDER BY lease, planned_at)
    ELSE planned_at END"""
"""SQL for the time by which the runs of a name are in their order, of the fields of their plans: the clock of a machine
may be behind, so a run did not begin before a run with an earlier lease."""
POLL_SECONDS = 0.5
"""Seconds between two checks of a waiting run, for a local ledger; in a bucket, it is the heartbeat interval."""


@contextmanager
def hold_lease(
    store: Store, run: str, *, waits_for: Callable[[str], None], lost: Callable[[str], None]
) -> Generator[int]:
    """Hold the lease of a job's ledger while the context is open; wait while another run holds the lease.

    Args:
        store: The folder of the job's name in the ledger.
        run: Id of the run.
        waits_for: Called with a description of the current owner, once for each owner that is waited for.
        lost: Called from a thread, with the reason, when the lease is lost early: the process was suspended for a
            minute, or the bucket was not reachable. The work under the lease must stop then.

    Yields:
        The number of the lease.

    Raises:
        JobError: The ledger cannot be written.

    Example:
        >>> with hold_lease(store, run_id, waits_for=print, lost=stop) as lease:
        ...     work()
    """
    us = Owner.of_this_process(run)
    try:
        number = _acquire(store, us, waits_for)
    except OSError as error:
        raise JobError(f"ledger {store.address} cannot be written: {error.strerror or error}") from error
    with send_heartbeats(store, _name(number), us, lost=lost, is_over=lambda: newest_lease(store) > number):
        yield number


def newest_lease(store: Store) -> int:
    """Return the number of the newest lease; 0 if there has been none.

    Raises:
        OSError: The folder cannot be read.
    """
    return max((_number(name) for name in store.names(LEASES)), default=0)


def active_run(store: Store) -> str:
    """Return the id of the run that holds the lease; empty if there is none, as far as a single check can tell.

    Raises:
        OSError: The folder cannot be read.
    """
    newest = newest_lease(store)
    other = Owner.read(store, _name(newest)) if newest else None
    if other is None or other.is_gone:
        return ""
    try:
        # A machine that crashed or was restarted leaves a lease that is not renewed.
        return "" if time.time() - store.modified(_name(newest)) > heartbeat.STALE_SECONDS else other.run
    except FileNotFoundError:
        return ""  # another run has just taken it over


def _acquire(store: Store, us: Owner, waits_for: Callable[[str], None]) -> int:
    reported: Any = None
    timer = StalenessTimer()
    while True:
        newest = newest_lease(store)
        other = Owner.read(store, _name(newest)) if newest else None
        is_silent = timer.seconds_unchanged("lease", (newest, other)) > heartbeat.STALE_SECONDS
        is_over = newest == 0 or (other and other.is_gone) or is_silent
        if is_over and _take(store, newest + 1, us):
            if other and not other.ended:
                await_runners(store.folder(other.run), but=other.run)
            return newest + 1
        if not is_over and other and reported != other.run:
            reported = other.run
            waits_for(str(other))
        if not is_over:
            time.sleep(POLL_SECONDS if store.local else heartbeat.HEARTBEAT_SECONDS)


def _take(store: Store, number: int, us: Owner) -> bool:
    if not store.create(_name(number), json.dumps(asdict(us)).encode()):
        return False
    if newest_lease(store) > number:  # the file had existed, and the owner of a later lease removed it
        store.remove([_name(number)])
        return False
    store.remove(name for name in store.names(LEASES) if _number(name) < number)
    return True


def _name(number: int) -> str:
    return f"lease/{number:012d}.json"


def _number(name: str) -> int:
    stem = name.rpartition("/")[2].removesuffix(".json")
    return int(stem) if stem.isdigit() else 0
