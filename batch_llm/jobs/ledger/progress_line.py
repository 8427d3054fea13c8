"""Progress of a run in one line, for the terminal and the progress artifact."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime

from batch_llm.jobs.messages import duration, failures, limit, money, throughput

from .progress import Progress, Retry

_LONGEST_COOLDOWN_SECONDS = 3600.0
"""Longer waits come only from a daily limit, with `daily_limit` "wait"."""

_CLOCK_FROM_SECONDS = 90.0
"""Remaining cooldown from which its end is shown as a time."""

RATE_SECONDS, RATE_ITEMS = 30.0, 5
"""Window of the rate: at least this many seconds and finished items, so that a slow start is forgotten."""

BETWEEN = " · "
"""Separator of two facts in a line."""


class Rate:
    """Recent rate of finished items, without the time in which the run only waited.

    While no item finishes, the rate stays the same, so an estimate of the remaining time does not grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: deque[tuple[float, int]] = deque()  # seconds of work, and items that were done then
        self._worked = 0.0
        self._updated: float | None = None

    def update(self, done: int, *, waits: bool = False) -> None:
        """Record the number of items that are done now.

        Args:
            done: Number of items.
            waits: Whether the run only waits now: for the end of a cooldown, or for retries.
        """
        now = self._clock()
        if self._updated is not None and not waits:
            self._worked += now - self._updated
        self._updated = now
        if self._seen and done == self._seen[-1][1]:
            return
        self._seen.append((self._worked, done))
        while len(self._seen) > 2:
            at, before = self._seen[1]
            if self._worked - at < RATE_SECONDS or done - before < RATE_ITEMS:
                break
            self._seen.popleft()

    @property
    def per_second(self) -> float:
        """Items per second; 0 while it is unknown."""
        if len(self._seen) < 2:
            return 0.0
        (first, before), (last, after) = self._seen[0], self._seen[-1]
        return max(0.0, (after - before) / (last - first)) if last > first else 0.0


def waits(progress: Progress) -> bool:
    """Return whether a run only waits: for the end of a cooldown, or for retries of all remaining items."""
    retry = progress.retry
    return progress.paused_seconds > 0 or (retry is not None and progress.total - progress.done <= retry.items)


def facts(progress: Progress, per_second: float, *, clock_time: bool = False) -> str:
    """Return the numbers of a run in one line.

    Args:
        progress: The progress of the run.
        per_second: Items per second; 0 if the rate is unknown.
        clock_time: Whether to give the time of a retry instead of the seconds until then, for a text that stays.
    """
    parts: list[str] = []
    if per_second and progress.done < progress.total:  # the rate is a recent one; the run's own is in its totals
        parts.append(throughput(per_second))
        parts.append(f"ETA {duration(_seconds_left(progress, per_second))}")
    parts.append(f"tokens {progress.input_tokens:,} in, {progress.output_tokens:,} out")
    parts.append(money(progress.cost_usd))
    if progress.reused:
        parts.append(f"{progress.reused:,} reused")
    if progress.failed:
        parts.append(f"{progress.failed:,} failed ({failures(progress.categories)})")
    if progress.limit is not None and progress.is_limited:
        parts.append(f"limit {limit(progress.limit)}")
    if progress.paused_seconds > 0:
        more = _until(progress.paused_seconds)
        if progress.paused_seconds > _LONGEST_COOLDOWN_SECONDS:
            parts.append(f"the provider's daily limit is used up: calls continue in {more}")
        else:
            parts.append(f"rate limited: calls continue in {more}")
    if progress.retry is not None:
        parts.append(_retry_sentence(progress.retry, clock_time=clock_time))
    return BETWEEN.join(parts)


def _until(seconds: float) -> str:
    """Return a remaining duration as text, with the local time of its end if it is long."""
    if seconds <= _CLOCK_FROM_SECONDS:
        return duration(seconds)
    now = time.time()
    end, today = time.localtime(now + seconds), time.localtime(now)
    day = "" if end[:3] == today[:3] else time.strftime("%Y-%m-%d ", end)
    return f"{duration(seconds)}, at {day}{time.strftime('%H:%M', end)}"


def _retry_sentence(retry: Retry, *, clock_time: bool) -> str:
    """Return which items wait for a retry of their shard, and until when."""
    items = f"{retry.items:,} item{'s' if retry.items > 1 else ''} left after {retry.category}"
    wait = retry.at - time.time()
    when = f"in {_until(wait)}" if wait > 0 else "when workers are free"
    if clock_time:
        when = f"at {datetime.fromtimestamp(retry.at, UTC):%H:%M:%S} UTC"
    if retry.shards > 1:
        return f"{items}; {retry.shards:,} shards retry, shard {retry.shard} {when}"
    return f"{items}; shard {retry.shard} retries {when}"


def _seconds_left(progress: Progress, per_second: float) -> float:
    """Return the estimated time until the last item is done, including the wait for a cooldown or a retry."""
    retry = progress.retry
    waiting = retry.items if retry else 0
    work = max(0, progress.total - progress.done - waiting) / per_second
    ends = max(0.0, progress.paused_seconds) + work
    return max(ends, max(0.0, retry.at - time.time()) + waiting / per_second) if retry else ends
