"""Whoever works on something in the ledger, as a small file tells: its count rises while he lives."""

from __future__ import annotations

import json
import logging
import os
import platform
import threading
import time
from collections.abc import Callable, Generator, Hashable
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from batch_llm.jobs.storage.store import Store

HEARTBEAT_SECONDS = 5.0
STALE_SECONDS = 60.0
"""Whose count stands still for so long is taken for dead: twelve beats."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Owner:
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
    def of_this_process(cls, run: str) -> Owner:
        return cls(run, platform.node(), _process(os.getpid()), os.getpid(), time.time())

    @classmethod
    def read(cls, store: Store, name: str) -> Owner | None:
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


class StalenessTimer:
    """Tells how long things have stood still, by this process's own watch: the machines' clocks need not agree."""

    def __init__(self) -> None:
        self._seen: dict[Hashable, tuple[object, float]] = {}

    def seconds_unchanged(self, name: Hashable, value: object) -> float:
        """Return for how many seconds `name` has had this value."""
        now = time.monotonic()
        known, since = self._seen.get(name, (value, now))
        if known != value:
            since = now
        self._seen[name] = (value, since)
        return now - since


class Heartbeat:
    """The sign of life of this process, while `beating` lasts."""

    def __init__(self) -> None:
        self.ended = threading.Event()
        self._renewed = time.monotonic()

    def renew(self) -> None:
        self._renewed = time.monotonic()

    @property
    def is_missed(self) -> bool:
        """Whether others will soon take us for dead: who works has to stop, and to leave them the time to notice."""
        return time.monotonic() - self._renewed > STALE_SECONDS - 3 * HEARTBEAT_SECONDS


@contextmanager
def send_heartbeats(
    store: Store, name: str, us: Owner, *, lost: Callable[[str], None], is_over: Callable[[], bool] = lambda: False
) -> Generator[Heartbeat]:
    """Show in a file that this process lives, and at the end that it is done.

    Args:
        store: Where the file is.
        name: Its name.
        us: What stands in it.
        lost: Told, from a thread, why others take us for dead; not before a request that hangs comes back.
        is_over: Whether another one has taken our place, for which `lost` is told, too.
    """
    beat = Heartbeat()
    thread = threading.Thread(target=_beat, args=(store, name, us, lost, is_over, beat), daemon=True, name="beat")
    thread.start()
    try:
        yield beat
    finally:
        beat.ended.set()
        thread.join()
        try:
            if not is_over():
                replace(us, ended=True).write(store, name)
        except OSError as error:
            _log.warning("%s could not be given back, others wait a minute: %s", name, error)


def _beat(
    store: Store, name: str, us: Owner, lost: Callable[[str], None], is_over: Callable[[], bool], beat: Heartbeat
) -> None:
    while not beat.ended.wait(HEARTBEAT_SECONDS):
        try:
            if is_over():
                lost("another run that took the ledger over, for this one had given no sign of life")
                return
            us = replace(us, beat=us.beat + 1)
            us.write(store, name)
            beat.renew()
        except OSError as error:
            if beat.is_missed:
                lost(f"a ledger that cannot be written to: {error}")
                return


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
