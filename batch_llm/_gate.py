"""When the next call may start: a few numbers, decided synchronously.

    open ──a rate limit, begin()──> closed, for how long is being asked ──pause(wait)──> closed until `reopens_at`
     ^                                                                                         │
     └──── after `slow_start_items` spaced starts ──── slow start <──── the clock reaches it ──┘

    stop(), from anywhere ──> stopped: everybody who waits goes home, and nobody enters any more

Nobody owns a pause: it is the number `_reopens_at`, so cancelling any caller changes nothing for the others. Behind the
gate stands the turnstile: what may start at once still starts no faster than the event loop can take it.
"""

from __future__ import annotations

import asyncio
import math

from ._turnstile import Turnstile
from .config import RateLimitConfig


class Gate:
    """The one place where a run's calls wait for their start.

    Attributes:
        episodes: Cooldowns in a row without a success between them.
        stopped: Whether no further call may start.
    """

    def __init__(self, config: RateLimitConfig) -> None:
        self._config = config
        self._reopens_at = -math.inf
        self._next_start = -math.inf
        self._slow_starts = config.slow_start_items  # none are left: a fresh run starts at full speed
        self._version = 0
        self._at_gate: dict[asyncio.Future[None], None] = {}  # in order of arrival
        self._resting: dict[asyncio.Future[None], None] = {}
        self._turnstile = Turnstile()
        self.episodes = 0
        self.stopped = False

    async def enter(self) -> float | None:
        """Wait for a turn and return its start time by the loop's clock, or None once the run stops."""
        clock = asyncio.get_running_loop().time
        while not self.stopped:
            now, version = clock(), self._version
            start = self._reserve(now)
            if start > now:
                await _sleep(start, self._at_gate)
                now = clock()
            if not self._turnstile.is_free(now):
                await self._turnstile.turn()
                now = clock()
            # The numbers changed meanwhile: the turn is void, and everybody lines up again, in order.
            if version == self._version and not self.stopped:
                return max(start, now)  # a timer may ring a moment early
        return None

    def _reserve(self, now: float) -> float:
        start = max(now, self._reopens_at, self._next_start)
        if self._slow_starts < self._config.slow_start_items:
            self._next_start = start + self._spacing(self._slow_starts)
            self._slow_starts += 1
        return start

    def _spacing(self, index: int) -> float:
        config = self._config
        first, last = config.slow_start_initial_delay, config.slow_start_final_delay
        return first + (last - first) * index / max(1, config.slow_start_items - 1)

    def begin(self, started: float) -> bool:
        """Close the gate for a rate limit that a call met; False where it belongs to an episode that is known.

        A call that started before the last reopening tells nothing new. The caller of a new episode finds out how long
        it lasts and says so with `pause`; until then the gate is closed.
        """
        if started < self._reopens_at:
            return False
        self.episodes += 1
        self._reopens_at = math.inf
        self._version += 1
        return True

    def pause(self, until: float) -> None:
        """Reopen at `until`, slowly."""
        self._reopens_at = until
        self._next_start = -math.inf
        self._slow_starts = 0
        self._version += 1
        _wake(self._at_gate)

    def succeeded(self, started: float) -> None:
        """Note that a call was answered; the next episode is a first one again, if the call began after the last."""
        if started >= self._reopens_at:
            self.episodes = 0

    async def rest(self, seconds: float) -> None:
        """Wait that long, or until the run stops."""
        if seconds > 0 and not self.stopped:
            await _sleep(asyncio.get_running_loop().time() + seconds, self._resting)

    def stop(self) -> None:
        """Let nobody enter any more, and send everybody home who waits."""
        self.stopped = True
        _wake(self._at_gate)
        _wake(self._resting)
        self._turnstile.open()


async def _sleep(until: float, sleepers: dict[asyncio.Future[None], None]) -> None:
    loop = asyncio.get_running_loop()
    alarm: asyncio.Future[None] = loop.create_future()
    timer = loop.call_at(until, _ring, alarm) if until < math.inf else None
    sleepers[alarm] = None
    try:
        await alarm
    finally:
        sleepers.pop(alarm, None)
        if timer is not None:
            timer.cancel()


def _wake(sleepers: dict[asyncio.Future[None], None]) -> None:
    for alarm in sleepers:
        _ring(alarm)


def _ring(alarm: asyncio.Future[None]) -> None:
    if not alarm.done():
        alarm.set_result(None)
