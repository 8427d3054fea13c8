"""Spreads the starts of calls, so that the event loop gets round to the calls in flight.

    free ──a start──> in a pass of the loop ──the pass is over, nobody waits──> free
                          │        ^
    too much of it used ──┘        └── the next pass lets some of those in who wait

A thousand agent runs that start in one pass block the loop for seconds: answers lie unread, and connections that stand
are given up as timed out. So a pass starts calls for `PASS_SECONDS` at most; whoever comes later waits for his turn.
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
"""Below that the loop is blocked, not busy; a busy one gets less than a whole core where others want it too."""


class LoopThrottle:
    """Lets calls start as the event loop can take them, and says once when it is the bottleneck."""

    def __init__(self) -> None:
        self._began: float | None = None  # the current pass, if any call started in it
        self._queue: deque[asyncio.Future[None]] = deque()
        self._at_once = 1
        self._strain = _Strain()

    def is_closed(self, now: float) -> bool:
        """Whether a call has to wait for its turn; `now` is the loop's time."""
        return self._began is not None and now - self._began > PASS_SECONDS

    def pass_through(self, now: float, *, seconds_late: float = 0.0) -> None:
        """Count a call that starts at once, or has waited for the loop in the line before."""
        if self._began is None:
            self._begin(now)
        if seconds_late > PASS_SECONDS:
            self._strain.waited += 1
        else:
            self._strain.started += 1

    async def wait(self) -> None:
        """Wait for a turn, first come, first served."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append(turn)
        await turn

    def open(self) -> None:
        """Let everybody through who waits."""
        self._let_in(len(self._queue))

    def _begin(self, now: float) -> None:
        self._began = now
        asyncio.get_running_loop().call_soon(self._next_pass)

    def _next_pass(self) -> None:
        """Let in twice as many as last time where that went quickly, else one."""
        now = asyncio.get_running_loop().time()
        quick = self._began is not None and now - self._began <= PASS_SECONDS
        self._at_once = self._at_once * 2 if quick and self._queue else 1
        self._began = None
        if self._queue:
            self._begin(now)
            self._let_in(self._at_once)
        self._strain.look(now)

    def _let_in(self, number: int) -> None:
        for _ in range(min(number, len(self._queue))):
            turn = self._queue.popleft()
            if not turn.done():
                turn.set_result(None)
                self._strain.waited += 1


class _Strain:
    """How many of the latest starts had to wait, and whether that has been said."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._cpu = 0.0
        self._said = False
        self.started = 0
        self.waited = 0

    def look(self, now: float) -> None:
        """At the end of a window, warn if most of its starts had to wait."""
        if self._since is not None and now - self._since < WINDOW_SECONDS:
            return
        if self._since is not None and not self._said and self.waited > self.started / 2:
            self._warn(now - self._since)
        self._since, self._cpu = now, time.thread_time()
        self.started = self.waited = 0

    def _warn(self, seconds: float) -> None:
        self._said = True
        share = (time.thread_time() - self._cpu) / seconds
        rate = (self.started + self.waited) / seconds
        if share > LEAST_CPU_SHARE:
            logger.warning(
                "CPU-bound at %.0f calls/s: more processes, not more workers. A strategy that needs less of the CPU, "
                "such as ModelStrategy, helps too",
                rate,
            )
        else:
            logger.warning(
                "Calls wait for the event loop, which something blocks (it used %.0f %% of the CPU): look for a "
                "strategy or a hook that waits without `await`",
                share * 100,
            )
