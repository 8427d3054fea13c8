"""The memory of several processes together, as Linux counts it: what they share is counted once (proc(5))."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread

_PSS = re.compile(rb"^Pss:\s+(\d+) kB", re.MULTILINE)


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


@dataclass
class Watch:
    """What was seen of process trees, by their names: the largest, and the last."""

    peak: dict[str, int] = field(default_factory=dict[str, int])
    last: dict[str, int] = field(default_factory=dict[str, int])

    def look(self, roots: dict[str, int]) -> None:
        """Look once."""
        for name, pid in roots.items():
            self.last[name] = pss_bytes(pid)
            self.peak[name] = max(self.peak.get(name, 0), self.last[name])


@contextmanager
def watching(roots: dict[str, int], seconds: float = 1.0) -> Generator[Watch]:
    """Look at the trees of `roots` every so often while the block runs."""
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
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:  # it ended meanwhile
        return None


def _pss(pid: int) -> int:
    try:
        found = _PSS.search(Path(f"/proc/{pid}/smaps_rollup").read_bytes())
    except OSError:
        return 0
    return int(found[1]) * 1024 if found else 0
