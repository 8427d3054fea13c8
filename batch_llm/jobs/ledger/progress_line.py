"""Progress of a run in one line, for the terminal and the progress artifact."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from batch_llm.jobs.messages import duration, failures, limit, money, throughput

from .progress import Progress

_LONGEST_COOLDOWN_SECONDS = 3600.0
"""Longer waits come only from a daily limit, with `daily_limit` "wait"."""

_CLOCK_FROM_SECONDS = 90.0
"""Remaining cooldown from which its end is shown as a time."""

RATE_SECONDS, RATE_ITEMS = 30.0, 5
"""Window of the rate: at least this many seconds and finished items, so that a slow start is forgotten."""

BETWEEN = " · "
"""Separator of two facts in a line."""


class Rate:
    """Recent rate of finished items."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: deque[tuple[float, int]] = deque()

    def update(self, done: int) -> None:
        """Record the number of items that are done now."""
        now = self._clock()
        self._seen.append((now, done))
        while len(self._seen) > 2:
            at, before = self._seen[1]
            if now - at < RATE_SECONDS or done - before < RATE_ITEMS:
                break
            self._seen.popleft()

    @property
    def per_second(self) -> float:
        """Items per second; 0 while it is unknown."""
        if len(self._seen) < 2:
            return 0.0
        (first, before), (last, after) = self._seen[0], self._seen[-1]
        return (after - before) / (last - first) if last > first else 0.0


def facts(progress: Progress, per_second: float) -> str:
    """Return the numbers of a run in one line."""
    parts: list[str] = []
    if per_second and progress.done < progress.total:  # the rate is a recent one; the run's own is in its totals
        parts.append(throughput(per_second))
        parts.append(f"ETA {duration((progress.total - progress.done) / per_second)}")
    parts.append(f"tokens {progress.input_tokens:,} in, {progress.output_tokens:,} out")
    parts.append(money(progress.cost_usd))
    if progress.reused:
        parts.append(f"{progress.reused:,} reused")
    if progress.failed:
        parts.append(f"{progress.failed:,} failed ({failures(progress.categories)})")
    if progress.limit is not None:
        parts.append(f"limit {limit(progress.limit)}")
    if progress.paused_seconds > 0:
        more = _until(progress.paused_seconds)
        if progress.paused_seconds > _LONGEST_COOLDOWN_SECONDS:
            parts.append(f"the provider's daily limit is used up: calls continue in {more}")
        else:
            parts.append(f"rate limited: calls continue in {more}")
    return BETWEEN.join(parts)


def _until(seconds: float) -> str:
    """Return a remaining duration as text, with the local time of its end if it is long."""
    if seconds <= _CLOCK_FROM_SECONDS:
        return duration(seconds)
    now = time.time()
    end, today = time.localtime(now + seconds), time.localtime(now)
    day = "" if end[:3] == today[:3] else time.strftime("%Y-%m-%d ", end)
    return f"{duration(seconds)}, at {day}{time.strftime('%H:%M', end)}"
