"""Heartbeats: a process that owns something in the ledger increments a counter in a small file while it is alive."""

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
"""Seconds without a new heartbeat after which an owner is treated as dead: twelve heartbeats."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Owner:
    """Owner of a lease or a claim: one process of a run.

    Attributes:
        run: Id of the run, or name of the runner.
        machine: Name of the machine, for messages.
        process: Unique identity of the process among the processes of its machine; empty if not available.
        pid: Process id.
        since: Start of the ownership, in seconds since the epoch, by the clock of the owner's machine.
        beat: Heartbeat counter.
        ended: Whether the owner has released its lease or claim.
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
        """Return the owner entry of this process for a run."""
        return cls(run, platform.node(), _process(os.getpid()), os.getpid(), time.time())

    @classmethod
    def read(cls, store: Store, name: str) -> Owner | None:
        """Return the owner in a file; None if the file is missing or incomplete."""
        with suppress(ValueError, TypeError):
            return cls(**json.loads(store.read(name) or b""))
        return None

    def write(self, store: Store, name: str) -> None:
        """Write this owner to a file of the store."""
        store.write(name, json.dumps(asdict(self)).encode())

    @property
    def is_gone(self) -> bool:
        """Whether the owner has certainly ended: it has released its lease, or its process on this machine is dead."""
        if self.ended:
            return True
        ours = _process(os.getpid())
        seen_from_here = bool(self.process) and self.process.split()[:2] == ours.split()[:2]
        return seen_from_here and _process(self.pid) != self.process

    def __str__(self) -> str:
        since = time.strftime("%H:%M", time.localtime(self.since))
        return f"run {self.run} (process {self.pid} on {self.machine}, since {since})"


class StalenessTimer:
    """Timer of how long values have not changed, by the clock of this process: clocks of machines may differ."""

    def __init__(self) -> None:
        self._seen: dict[Hashable, tuple[object, float]] = {}

    def seconds_unchanged(self, name: Hashable, value: object) -> float:
        """Return for how many seconds `name` has had this value.

        Args:
            name: Key of the value.
            value: The current value.
        """
        now = time.monotonic()
        known, since = self._seen.get(name, (value, now))
        if known != value:
            since = now
        self._seen[name] = (value, since)
        return now - since


class Heartbeat:
    """State of this process's heartbeat within `send_heartbeats`.

    Attributes:
        ended: Set when the heartbeat should stop.
    """

    def __init__(self) -> None:
        self.ended = threading.Event()
        self._renewed = time.monotonic()

    def renew(self) -> None:
        """Record that the heartbeat was written."""
        self._renewed = time.monotonic()

    @property
    def is_missed(self) -> bool:
        """Whether other processes will soon treat this one as dead, so that it must stop its work in time."""
        return time.monotonic() - self._renewed > STALE_SECONDS - 3 * HEARTBEAT_SECONDS


@contextmanager
def send_heartbeats(
    store: Store, name: str, us: Owner, *, lost: Callable[[str], None], is_over: Callable[[], bool] = lambda: False
) -> Generator[Heartbeat]:
    """Write heartbeats to a file while the context is open, and at the end, that the owner has ended.

    Args:
        store: Folder of the file.
        name: Name of the file.
        us: The owner, which is the content of the file.
        lost: Called from a thread, with the reason, when other processes may treat this one as dead. If a request to
            the file system hangs, it is called only after the request returns.
        is_over: Whether another owner has taken over; `lost` is called then, too.
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
            _log.warning("%s could not be released; the next run waits for a minute: %s", name, error)


def _beat(
    store: Store, name: str, us: Owner, lost: Callable[[str], None], is_over: Callable[[], bool], beat: Heartbeat
) -> None:
    while not beat.ended.wait(HEARTBEAT_SECONDS):
        try:
            if is_over():
                lost("another run that took over the ledger, because this run had sent no heartbeat")
                return
            us = replace(us, beat=us.beat + 1)
            us.write(store, name)
            beat.renew()
        except OSError as error:
            if beat.is_missed:
                lost(f"a ledger that cannot be written: {error}")
                return


def _process(pid: int) -> str:
    """Return a unique identity of a process: boot id, PID namespace, PID and start time; empty except on Linux."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = Path("/proc/self/ns/pid").readlink()
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    is_dead = state in "ZX"  # a zombie, which its parent has not collected yet
    return "" if is_dead else f"{boot} {namespace} {pid} {rest[18]}"
