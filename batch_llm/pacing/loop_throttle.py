"""Throttle that spreads the starts of calls, so that the event loop can serve the calls in flight.

    free ──a start──> in an iteration of the loop ──it completes, no call waits──> free
                          │        ^
    its time is used up ──┘        └── the next iteration admits some of the waiting calls

A thousand agent runs that start in one iteration block the loop for seconds: answers are not read, and established
connections time out. So each iteration starts calls for at most `PASS_SECONDS`; later calls wait for the next one.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque

logger = logging.getLogger(__name__)

PASS_SECONDS = 0.02
WINDOW_SECONDS = 5.0
LEAST_CPU_SHARE = 0.2
"""CPU share below which the loop is blocked rather than busy; a busy loop may get less than a whole core."""


class LoopThrottle:
    """Throttle for starts of calls; logs one warning if the event loop is the bottleneck."""

    def __init__(self) -> None:
        self._began: float | None = None  # the current iteration, if any call started in it
        self._queue: deque[asyncio.Future[None]] = deque()
        self._at_once = 1
        self._congestion = _Congestion()

    def is_closed(self, now: float) -> bool:
        """Return whether a call has to `wait`; `now` is the event loop's time."""
        return self._began is not None and now - self._began > PASS_SECONDS

    def pass_through(self, now: float, *, seconds_late: float = 0.0) -> None:
        """Count a call that starts immediately, or whose wait in the gate's queue was due to the loop."""
        if self._began is None:
            self._begin(now)
        if seconds_late > PASS_SECONDS:
            self._congestion.waited += 1
        else:
            self._congestion.started += 1

    async def wait(self) -> None:
        """Wait until the call may start, in order of arrival."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append(waiter)
        await waiter

    def open(self) -> None:
        """Admit all waiting calls."""
        self._admit(len(self._queue))

    def _begin(self, now: float) -> None:
        self._began = now
        asyncio.get_running_loop().call_soon(self._next_iteration)

    def _next_iteration(self) -> None:
        """Admit twice as many calls as in the last iteration if that was fast, else one."""
        now = asyncio.get_running_loop().time()
        quick = self._began is not None and now - self._began <= PASS_SECONDS
        self._at_once = self._at_once * 2 if quick and self._queue else 1
        self._began = None
        if self._queue:
            self._begin(now)
            self._admit(self._at_once)
        self._congestion.look(now)

    def _admit(self, number: int) -> None:
        for _ in range(min(number, len(self._queue))):
            waiter = self._queue.popleft()
            if not waiter.done():
                waiter.set_result(None)
                self._congestion.waited += 1


class _Congestion:
    """Counts of recent starts with and without a wait, and the warning if most had to wait."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._cpu = 0.0
        self._warned = False
        self.started = 0
        self.waited = 0

    def look(self, now: float) -> None:
        """Log a warning at the end of a window if most of its starts had to wait."""
        if self._since is not None and now - self._since < WINDOW_SECONDS:
            return
        if self._since is not None and not self._warned and self.waited > self.started / 2:
            self._warn(now - self._since)
        self._since, self._cpu = now, time.thread_time()
        self.started = self.waited = 0

    def _warn(self, seconds: float) -> None:
        self._warned = True
        share = (time.thread_time() - self._cpu) / seconds
        rate = (self.started + self.waited) / seconds
        if share > LEAST_CPU_SHARE:
            logger.warning(
                "CPU-bound at %.0f calls/s: use more processes, not more workers, or a strategy that needs less CPU "
                "time, such as ModelStrategy",
                rate,
            )
        else:
            logger.warning(
                "Calls wait for a blocked event loop (it used %.0f %% of the CPU): look for a strategy or a hook that "
                "waits without `await`",
                share * 100,
            )
