"""What several processes take together: memory, of which Linux counts what they share once (proc(5)), and CPU."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread

_PSS = re.compile(rb"^Pss:\s+(\d+) kB", re.MULTILINE)
_TICKS = os.sysconf("SC_CLK_TCK")


def pss_bytes(root: int) -> int:
    """Return the proportional set size of a process and all its descendants now; 0 when they are gone."""
    return sum(map(_pss, descendants(root)))


def descendants(root: int) -> Iterator[int]:
    """The process ids of a process and of everything that it started."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        if (parent := _parent(int(entry.name))) is not None:
            children.setdefault(parent, []).append(int(entry.name))
    waiting = [root]
    while waiting:
        pid = waiting.pop()
        yield pid
        waiting += children.get(pid, [])


def cpu_seconds(root: int) -> float:
    """Return the CPU that a process and all its descendants have used until now."""
    return sum(map(_cpu, descendants(root)))


@dataclass
class Watch:
    """What was seen of process trees, by their names: the largest, and the last; and of their CPU, at which time."""

    peak: dict[str, int] = field(default_factory=dict[str, int])
    last: dict[str, int] = field(default_factory=dict[str, int])
    cpu: dict[str, list[tuple[float, float]]] = field(default_factory=dict[str, list[tuple[float, float]]])

    def look(self, roots: dict[str, int]) -> None:
        """Look once."""
        for name, pid in roots.items():
            self.last[name] = pss_bytes(pid)
            self.peak[name] = max(self.peak.get(name, 0), self.last[name])
            self.cpu.setdefault(name, []).append((time.time(), cpu_seconds(pid)))

    def cpu_used(self, name: str, begin: float, end: float) -> float:
        """Return the CPU seconds that a tree used in each second between two times (`time.time`)."""
        seen = [(at, cpu) for at, cpu in self.cpu[name] if begin <= at <= end]
        (first_at, first), (last_at, last) = seen[0], seen[-1]
        return (last - first) / (last_at - first_at)


@contextmanager
def watching(roots: dict[str, int], seconds: float = 0.1) -> Generator[Watch]:
    """Look at the trees of `roots` every so often while the block runs: a merge of little takes a part of a second."""
    watch, over = Watch(), Event()

    def run() -> None:
        while not over.wait(seconds):
            watch.look(roots)

    thread = Thread(target=run)
    thread.start()
    try:
        yield watch
    finally:
        over.set()
        thread.join()


def _parent(pid: int) -> int | None:
    stat = _stat(pid)
    return int(stat[1]) if stat else None


def _cpu(pid: int) -> float:
    stat = _stat(pid)
    return (int(stat[11]) + int(stat[12])) / _TICKS if stat else 0.0


def _stat(pid: int) -> list[str]:
    """Return what proc(5) says of a process, from its state on; nothing where it has ended meanwhile."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _pss(pid: int) -> int:
    try:
        found = _PSS.search(Path(f"/proc/{pid}/smaps_rollup").read_bytes())
    except OSError:
        return 0
    return int(found[1]) * 1024 if found else 0
