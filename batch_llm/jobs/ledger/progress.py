"""Progress of a run, from the small files that its shards write."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from batch_llm.jobs.storage.json_files import read_object

from .shard_progress import ShardProgress, file_name

_PUBLISHING = "publishing"
"""File in the folder of the progress while the results are being written."""


@dataclass(frozen=True, slots=True)
class Retry:
    """What a run waits for: the items of shards that failed with errors that can pass.

    Attributes:
        items: Number of items.
        shards: Number of shards with these items.
        shard: Number of the shard that is retried first, from 1.
        category: Category of most of its errors.
        at: When it is retried, in seconds since the epoch; in the past if it waits for free workers.
    """

    items: int
    shards: int
    shard: int
    category: str
    at: float


@dataclass
class Progress:
    """Progress of a run.

    Attributes:
        total: Items of the source, including broken rows.
        done: Items that have an answer or have failed for good, including reused answers.
        succeeded: Items answered in this run.
        failed: Items that failed, including broken rows.
        reused: Items with a reused answer of an earlier run.
        input_tokens: Input tokens used so far.
        output_tokens: Output tokens used so far.
        cost_usd: Cost so far; None if the price of the model is not known.
        categories: Number of failures by category.
        seconds: Seconds from the plan until now, or until the last shard finished.
        paused_seconds: Remaining seconds of the current cooldown.
        limit: Calls per second that may start; None if no call had to wait for it.
        is_limited: Whether `limit` was configured, reported by the provider or met.
        rate_limits: Number of rate limits (429) that the run has met.
        paused_for: Total seconds of the shards' cooldowns.
        shards_done: Shards that have finished.
        shards: Shards of the run.
        waiting: The run that this one waits for before it starts; empty if it does not wait.
        retry: The items that wait for a retry of their shard; None if there are none.
        publishing: Whether the results are being written.
    """

    total: int = 0
    done: int = 0
    succeeded: int = 0
    failed: int = 0
    reused: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = 0.0
    categories: dict[str, int] = field(default_factory=dict[str, int])
    seconds: float = 0.0
    paused_seconds: float = 0.0
    limit: float | None = None
    is_limited: bool = False
    rate_limits: int = 0
    paused_for: float = 0.0
    shards_done: int = 0
    shards: int = 0
    waiting: str = ""
    retry: Retry | None = None
    publishing: bool = False


def read_progress(folder: str | Path) -> Progress:
    """Return the progress of a run; cheap enough to be called twice per second.

    Args:
        folder: The run's folder on this machine.

    Example:
        >>> progress = read_progress(plan.folder)
        >>> print(f"{progress.done} of {progress.total}")
    """
    return ProgressReader(folder).read()


class ProgressReader:
    """Reader for repeated polls of a run's progress; the files of finished shards are read only once.

    Args:
        folder: The run's folder on this machine.
    """

    def __init__(self, folder: str | Path) -> None:
        self._run = Path(folder)
        self._settled: set[str] = set()
        self._sum = ShardProgress(finished=True)

    def set_finished(self, shard: int) -> None:
        """Add a finished shard to the sum; its file is not read again."""
        name = file_name(shard)
        if name not in self._settled and (written := read_object(self._run / "progress" / name)):
            self._sum = _sum([self._sum, ShardProgress(**written)])
            self._settled.add(name)

    def read(self) -> Progress:
        """Return the progress of the run."""
        plan = _read_again(self._run / "plan.json")
        numbered = dict(self._open())
        open_ones = list(numbered.values())
        all_of_them = _sum([self._sum, *open_ones])
        now, broken, reused = time.time(), int(plan.get("broken", 0)), int(plan.get("reused", 0))
        succeeded = all_of_them.succeeded + int(plan.get("answered", 0))
        failed = all_of_them.failed + broken
        shards, done = len(plan.get("shards", ())), len(self._settled) + sum(each.finished for each in open_ones)
        return Progress(
            total=int(plan.get("total", 0)),
            done=succeeded + failed + reused - sum(each.called_again for each in open_ones),
            succeeded=succeeded,
            failed=failed,
            reused=reused,
            input_tokens=all_of_them.input_tokens,
            output_tokens=all_of_them.output_tokens,
            cost_usd=all_of_them.cost_usd,
            categories=dict(Counter(all_of_them.categories) + Counter(_broken(broken))),
            seconds=_seconds(plan, all_of_them.updated_at if done == shards else now),
            paused_seconds=max((each.paused_until - now for each in open_ones if not each.finished), default=0.0),
            limit=all_of_them.limit,
            is_limited=all_of_them.is_limited,
            rate_limits=all_of_them.rate_limits,
            paused_for=all_of_them.paused_for,
            shards_done=done,
            shards=shards,
            waiting=str(read_object(self._run / "waiting").get("for", "")),
            retry=_next_retry(numbered),
            publishing=(self._run / "progress" / _PUBLISHING).exists(),
        )

    def read_shard(self, shard: int) -> ShardProgress:
        """Return the progress of one shard; without counts if it has written none."""
        return ShardProgress(**_read_again(self._run / "progress" / file_name(shard)))

    def _open(self) -> Iterator[tuple[int, ShardProgress]]:
        with suppress(FileNotFoundError), os.scandir(self._run / "progress") as files:
            for file in files:
                if file.name[0].isdigit() and file.name not in self._settled:
                    yield int(file.name.partition(".")[0]), ShardProgress(**_read_again(file))


def record_publishing(folder: str | Path, *, ends: bool = False) -> None:
    """Record for `read_progress` that the results of a run are being written, or that this ended."""
    path = Path(folder) / "progress" / _PUBLISHING
    with suppress(OSError):  # progress is only displayed
        if ends:
            path.unlink(missing_ok=True)
        else:
            path.touch()


def _next_retry(shards: dict[int, ShardProgress]) -> Retry | None:
    waiting = {number: shard for number, shard in shards.items() if shard.retries_at}
    if not waiting:
        return None
    first = min(waiting, key=lambda number: waiting[number].retries_at)
    items = sum(shard.left for shard in waiting.values())
    return Retry(items, len(waiting), first + 1, waiting[first].left_after, waiting[first].retries_at)


def _sum(shards: Sequence[ShardProgress]) -> ShardProgress:
    categories = Counter[str]()
    for shard in shards:
        categories.update(shard.categories)
    latest = max(shards, key=lambda shard: shard.updated_at)
    return ShardProgress(
        succeeded=sum(shard.succeeded for shard in shards),
        failed=sum(shard.failed for shard in shards),
        input_tokens=sum(shard.input_tokens for shard in shards),
        output_tokens=sum(shard.output_tokens for shard in shards),
        cost_usd=total_cost(shard.cost_usd for shard in shards),
        categories=dict(categories),
        limit=latest.limit,
        is_limited=any(shard.is_limited for shard in shards),
        rate_limits=sum(shard.rate_limits for shard in shards),
        paused_for=sum(shard.paused_for for shard in shards),
        updated_at=latest.updated_at,
    )


def _read_again(file: Path | os.DirEntry[str]) -> dict[str, Any]:
    """Return the object in a file; it is read again only after the file was replaced."""
    try:
        found = file.stat()
    except OSError:
        return {}
    return _read_once(os.fspath(file), found.st_mtime_ns, found.st_ino)


@lru_cache(maxsize=4096)
def _read_once(path: str, changed_at: int, inode: int) -> dict[str, Any]:
    return read_object(Path(path))


def total_cost(costs: Iterable[float | None]) -> float | None:
    """Return the sum of costs; None if any cost is not known, because a partial sum would look like the total."""
    known = list(costs)
    return None if any(cost is None for cost in known) else sum(cost or 0.0 for cost in known)


def _broken(count: int) -> dict[str, int]:
    return {"invalid_input": count} if count else {}


def _seconds(plan: dict[str, Any], until: float) -> float:
    started = float(plan.get("planned_at", 0.0))
    return max(0.0, (until or started) - started) if started else 0.0
