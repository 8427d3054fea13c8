"""One run at a time works on a job's ledger: the lease says which, and a dead process cannot keep it.

    <ledger>/<name>/lease/000000000007.json    the seventh lease: who has it, and a count that rises while he lives

A lease is had by creating the next file, which succeeds for one of all who try, wherever the ledger is. It is over
when its holder says so; when its process is gone, which others on the same machine see at once; or when its count has
stood still for a minute by the watch of whoever waits: the machines' clocks need not agree.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from batch_llm.errors import JobError

from .store import Store

LEASES = "lease/*.json"
BEAT_SECONDS = 5.0
PATIENCE_SECONDS = 60.0
"""A lease whose count stands still for so long is over: twelve beats."""

LOOK_SECONDS = 0.5
"""Between two looks of whoever waits, on this machine; in a bucket it is the time of a beat."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a lease.

    Attributes:
        run: The run's id.
        machine: For a person.
        process: Which process it is, exactly, among those that can see each other; empty where that cannot be told.
        pid: Its number there.
        since: When it got the lease, in seconds since the epoch, by its own clock.
        beat: Rises while it lives.
        ended: Whether it gave the lease back.
    """

    run: str
    machine: str
    process: str
    pid: int
    since: float
    beat: int = 0
    ended: bool = False

    @classmethod
    def of_this_process(cls, run: str) -> Holder:
        return cls(run, platform.node(), _process(os.getpid()), os.getpid(), time.time())

    @classmethod
    def read(cls, store: Store, name: str) -> Holder | None:
        """Return who a lease's file names; None where it is not written yet."""
        with suppress(ValueError, TypeError):
            return cls(**json.loads(store.read(name) or b""))
        return None

    def write(self, store: Store, name: str) -> None:
        store.write(name, json.dumps(asdict(self)).encode())

    @property
    def is_gone(self) -> bool:
        """Whether the lease is over beyond doubt."""
        if self.ended:
            return True
        ours = _process(os.getpid())
        seen_from_here = bool(self.process) and self.process.split()[:2] == ours.split()[:2]
        return seen_from_here and _process(self.pid) != self.process

    def __str__(self) -> str:
        since = time.strftime("%H:%M", time.localtime(self.since))
        return f"run {self.run} (process {self.pid} on {self.machine}, since {since})"


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
    us = Holder.of_this_process(run)
    try:
        number = _acquire(store, us, waits_for)
    except OSError as error:
        raise JobError(f"the ledger cannot be written to {store.address}: {error.strerror or error}") from error
    with _beating(store, number, us, lost):
        yield number


def newest_lease(store: Store) -> int:
    """Return the number of the newest lease; 0 where there has been none.

    Raises:
        OSError: The folder cannot be read.
    """
    return max((_number(name) for name in store.names(LEASES)), default=0)


def run_at_work(store: Store) -> str:
    """Return the run that has the lease, as one look can tell; empty where none has it.

    Raises:
        OSError: The folder cannot be read.
    """
    newest = newest_lease(store)
    other = Holder.read(store, _name(newest)) if newest else None
    if other is None or other.is_gone:
        return ""
    try:
        # A machine that died, or was started anew, left a lease that nobody renews.
        return "" if time.time() - store.modified(_name(newest)) > PATIENCE_SECONDS else other.run
    except FileNotFoundError:
        return ""  # another run has just taken it over


def _acquire(store: Store, us: Holder, waits_for: Callable[[str], None]) -> int:
    told: Any = None
    seen: Any = None
    still_since = time.monotonic()
    while True:
        newest = newest_lease(store)
        other = Holder.read(store, _name(newest)) if newest else None
        if seen != (newest, other):
            seen, still_since = (newest, other), time.monotonic()
        is_over = newest == 0 or (other and other.is_gone) or time.monotonic() - still_since > PATIENCE_SECONDS
        if is_over and _take(store, newest + 1, us):
            return newest + 1
        if not is_over and other and told != other.run:
            told = other.run
            waits_for(str(other))
        if not is_over:
            time.sleep(LOOK_SECONDS if store.local else BEAT_SECONDS)


def _take(store: Store, number: int, us: Holder) -> bool:
    if not store.create(_name(number), json.dumps(asdict(us)).encode()):
        return False
    if newest_lease(store) > number:  # the file was there, and was removed by the holder of a later one
        store.remove([_name(number)])
        return False
    store.remove(name for name in store.names(LEASES) if _number(name) < number)
    return True


@contextmanager
def _beating(store: Store, number: int, us: Holder, lost: Callable[[str], None]) -> Generator[None]:
    ended = threading.Event()
    thread = threading.Thread(target=_beat, args=(store, number, us, lost, ended), daemon=True, name="lease")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        try:
            if newest_lease(store) == number:
                replace(us, ended=True).write(store, _name(number))
        except OSError as error:
            _log.warning("The lease %s could not be given back, others wait a minute: %s", _name(number), error)


def _beat(store: Store, number: int, us: Holder, lost: Callable[[str], None], ended: threading.Event) -> None:
    """Renew the lease until it ends, or is lost; leave others the time to notice before they may take it."""
    renewed = time.monotonic()
    while not ended.wait(BEAT_SECONDS):
        try:
            if newest_lease(store) > number:
                lost("another run that took the ledger over, for this one had given no sign of life")
                return
            us = replace(us, beat=us.beat + 1)
            us.write(store, _name(number))
            renewed = time.monotonic()
        except OSError as error:
            if time.monotonic() - renewed > PATIENCE_SECONDS - 3 * BEAT_SECONDS:
                lost(f"a ledger that cannot be written to: {error}")
                return


def _name(number: int) -> str:
    return f"lease/{number:012d}.json"


def _number(name: str) -> int:
    stem = name.rpartition("/")[2].removesuffix(".json")
    return int(stem) if stem.isdigit() else 0


def _process(pid: int) -> str:
    """Return the kernel's boot, its namespace of processes, the process's number and start; empty but on Linux."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = Path("/proc/self/ns/pid").readlink()
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    is_dead = state in "ZX"  # killed, and its parent has not looked yet
    return "" if is_dead else f"{boot} {namespace} {pid} {rest[18]}"
