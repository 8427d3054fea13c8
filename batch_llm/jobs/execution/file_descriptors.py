"""Limit of concurrent calls by file descriptors: each call in flight uses one for its connection."""

from __future__ import annotations

import logging
import resource
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from threading import Lock

from batch_llm.config import ProcessorConfig

_log = logging.getLogger(__name__)

_OTHERS = 24
"""File descriptors reserved for files, name resolution and Prefect's connections; fewer if the limit is very low."""

_MOST = 10_240
"""Maximum of the raised limit if the hard limit is infinite: macOS accepts no more (OPEN_MAX)."""

_lock = Lock()
_open_before = 0
_taken = 0


@contextmanager
def room_for_calls(config: ProcessorConfig) -> Generator[ProcessorConfig]:
    """Provide a configuration with no more workers than available file descriptors.

    The soft limit of the process is raised first, as far as allowed. If it is still too low, the number of workers is
    reduced and a warning is logged, because without file descriptors calls and writes to the ledger would fail.
    Descriptors that other shards in this process use are taken into account.
    """
    global _taken
    with _lock:
        workers, problem = _workers(config.max_workers)
        _taken += workers
    if problem:
        _log.warning("%s", problem)
    try:
        yield config if workers == config.max_workers else replace(config, max_workers=workers)
    finally:
        with _lock:
            _taken -= workers


def too_few_files(config: ProcessorConfig) -> str:
    """Return a warning if the process has fewer file descriptors than workers; else empty text."""
    with _lock:
        return _workers(config.max_workers)[1]


def _workers(wanted: int) -> tuple[int, str]:
    global _open_before
    if not _taken:
        _open_before = _open_now()
    limit = _limit(_open_before + _OTHERS + _taken + wanted)
    room = limit - _open_before - min(_OTHERS, limit // 4) - _taken
    workers = max(1, min(wanted, room))
    if workers == wanted:
        return workers, ""
    return workers, (
        f"{workers} calls at once instead of max_workers={wanted}: this process may open {limit} files, and each call "
        f"takes one. Raise it with `ulimit -n {wanted + 1000}` before the start, or lower max_workers"
    )


def _limit(needed: int) -> int:
    """Return the limit of open files, after raising it to `needed` if allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return needed
    if soft < needed:
        allowed = _MOST if hard == resource.RLIM_INFINITY else hard
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(needed, allowed)), hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def _open_now() -> int:
    try:
        return sum(1 for _ in Path("/dev/fd").iterdir())
    except OSError:  # there may be no file descriptor left to list the folder
        return _OTHERS
