"""One run at a time works on a job's ledger: the lease says which, and a dead process cannot keep it.

    <ledger>/<name>/lease/000000000007.json    the seventh lease: who has it, and a count that rises while he lives

A lease is had by creating the next file, which succeeds for one of all who try, wherever the ledger is. It is over
when its holder says so; when its process is gone, which others on the same machine see at once; or when its count has
stood still for a minute by the watch of whoever waits: the machines' clocks need not agree.
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
POLL_SECONDS = 0.5
"""Between two looks of whoever waits, on this machine; in a bucket it is the time of a beat."""


@contextmanager
def hold(store: Store, run: str, *, waits_for: Callable[[str], None], lost: Callable[[str], None]) -> Generator[int]:
    """Have the lease of a job's ledger while this context is open; wait for it as long as another run has it.

    Args:
        store: The folder of the job's name.
        run: The run's id.
        waits_for: Told once whom it waits for, each time that this is another one.
        lost: Told, from a thread, why the lease is over before its time: a process that slept for a minute, a bucket
            that was away. Whoever works under it has to stop.

    Yields:
        The lease's number.

    Raises:
        JobError: The ledger cannot be written.
    """
    us = Owner.of_this_process(run)
    try:
        number = _acquire(store, us, waits_for)
    except OSError as error:
        raise JobError(f"the ledger cannot be written to {store.address}: {error.strerror or error}") from error
    with send_heartbeats(store, _name(number), us, lost=lost, is_over=lambda: newest_lease(store) > number):
        yield number


def newest_lease(store: Store) -> int:
    """Return the number of the newest lease; 0 where there has been none.

    Raises:
        OSError: The folder cannot be read.
    """
    return max((_number(name) for name in store.names(LEASES)), default=0)


def read_lease(store: Store, number: int) -> Owner | None:
    """Return who has a lease; None where it is gone, as after another one was taken.

    Raises:
        OSError: The folder cannot be read.
    """
    return Owner.read(store, _name(number))


def active_run(store: Store) -> str:
    """Return the run that has the lease, as one look can tell; empty where none has it.

    Raises:
        OSError: The folder cannot be read.
    """
    newest = newest_lease(store)
    other = Owner.read(store, _name(newest)) if newest else None
    if other is None or other.is_gone:
        return ""
    try:
        # A machine that died, or was started anew, left a lease that nobody renews.
        return "" if time.time() - store.modified(_name(newest)) > heartbeat.STALE_SECONDS else other.run
    except FileNotFoundError:
        return ""  # another run has just taken it over


def _acquire(store: Store, us: Owner, waits_for: Callable[[str], None]) -> int:
    told: Any = None
    watch = StalenessTimer()
    while True:
        newest = newest_lease(store)
        other = Owner.read(store, _name(newest)) if newest else None
        is_silent = watch.seconds_unchanged("lease", (newest, other)) > heartbeat.STALE_SECONDS
        is_over = newest == 0 or (other and other.is_gone) or is_silent
        if is_over and _take(store, newest + 1, us):
            if other and not other.ended:
                await_runners(store.folder(other.run), but=other.run)
            return newest + 1
        if not is_over and other and told != other.run:
            told = other.run
            waits_for(str(other))
        if not is_over:
            time.sleep(POLL_SECONDS if store.local else heartbeat.HEARTBEAT_SECONDS)


def _take(store: Store, number: int, us: Owner) -> bool:
    if not store.create(_name(number), json.dumps(asdict(us)).encode()):
        return False
    if newest_lease(store) > number:  # the file was there, and was removed by the holder of a later one
        store.remove([_name(number)])
        return False
    store.remove(name for name in store.names(LEASES) if _number(name) < number)
    return True


def _name(number: int) -> str:
    return f"lease/{number:012d}.json"


def _number(name: str) -> int:
    stem = name.rpartition("/")[2].removesuffix(".json")
    return int(stem) if stem.isdigit() else 0
