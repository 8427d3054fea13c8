"""Where a run's calls wait for their start: in one line, whose head asks the pacer.

    arriving ──the line is empty and the pacer agrees──────────────────┐
        │                                                              v
        └──> in line ──first──> asking, sleeping ──the pacer agrees──> turnstile ──> started
                 ^                                                       │
                 └──────── the pacer paused meanwhile: void ─────────────┘

    stop(), from anywhere ──> stopped: everybody who waits goes home, and nobody enters any more

Nobody owns a pause: it is a number in the pacer, so cancelling any caller changes nothing for the others. Behind the
pacer stands the turnstile: what may start at once still starts no faster than the event loop can take it.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping

from .loop_throttle import LoopThrottle
from .pacer import CallPermit, Pacer


class Gate:
    """The one place where a run's calls wait for their start.

    Attributes:
        clock: The event loop's.
        too_large: Returns why a prompt of so many characters can never be sent; empty where it can.
        stopped: Whether no further call may start.
    """

    def __init__(self, pacer: Pacer) -> None:
        self._pacer = pacer
        self.clock = asyncio.get_running_loop().time
        self.too_large = pacer.too_large
        self._line = asyncio.Lock()
        self._waiting = 0  # in line, its head included
        self._asleep: asyncio.Future[None] | None = None  # the head
        self._slept_at = -math.inf
        self._resting: dict[asyncio.Future[None], None] = {}
        self._turnstile = LoopThrottle()
        self.stopped = False

    @property
    def episodes(self) -> int:
        """Rate-limit episodes in a row without a success between them."""
        return self._pacer.episodes

    @property
    def rate(self) -> float | None:
        """Calls a second that may start; None where nothing bounds them."""
        return self._pacer.rate

    @property
    def is_hopeless(self) -> bool:
        """Whether nearly everything has been refused for too long."""
        return self._pacer.is_hopeless(self.clock())

    def enter_at_once(self, size: int) -> CallPermit | None:
        """Take a turn if there is nothing to wait for; None where `enter` has to."""
        turn, now = CallPermit(size), self.clock()
        if self._waiting or self.stopped or self._turnstile.is_closed(now) or self._pacer.reserve(now, turn) > now:
            return None
        self._turnstile.pass_through(now)
        turn.started = now
        return turn

    async def enter(self, size: int) -> CallPermit | None:
        """Wait for a turn for a prompt of `size` characters, and take it; None once the run stops."""
        turn, pacer = CallPermit(size), self._pacer
        while not self.stopped:
            due = now = self.clock()
            if self._waiting or pacer.reserve(now, turn) > now:
                due, now = await self._line_up(turn)
                if self.stopped:
                    break
            version = pacer.version
            if self._turnstile.is_closed(now):
                await self._turnstile.wait()
                now = max(now, self.clock())
            else:
                self._turnstile.pass_through(now, seconds_late=now - due)
            if version == pacer.version and not self.stopped:
                turn.started = now
                return turn
            pacer.not_sent(turn, now)
        return None

    async def _line_up(self, turn: CallPermit) -> tuple[float, float]:
        """Wait until everybody before is through and the pacer agrees; return when it might have been, and when it was.

        The time between them went by because the loop was busy: where the pacer held up nobody since this one came, all
        of it.
        """
        clock = self.clock
        came = clock()
        self._waiting += 1
        try:
            async with self._line:
                now = clock()
                due = now if self._slept_at >= came else came
                while not self.stopped and (start := self._pacer.reserve(now, turn)) > now:
                    slept = await self._sleep(start)
                    now = max(clock(), start) if slept else clock()  # a timer may ring a moment early
                    due, self._slept_at = start if slept else now, now
                return due, now
        finally:
            self._waiting -= 1

    async def _sleep(self, until: float) -> bool:
        """Sleep as the head of the line; False when woken before."""
        loop = asyncio.get_running_loop()
        alarm = self._asleep = loop.create_future()
        timer = loop.call_at(until, _ring, alarm) if until < math.inf else None
        try:
            await alarm
        finally:
            self._asleep = None
            if timer is not None:
                timer.cancel()
        return timer is not None and timer.when() <= loop.time() + _EARLY

    def rate_limited(self, turn: CallPermit) -> bool:
        """Note that a call met a rate limit; True where it begins an episode: find out how long, and `pause`."""
        return self._pacer.rate_limited(turn, self.clock())

    def pause(self, until: float) -> None:
        """Let no call start before `until`."""
        self._pacer.pause(until, self.clock())
        self._wake()

    def succeeded(self, turn: CallPermit, usage: Mapping[str, int]) -> None:
        """Note that a call was answered, and what it cost."""
        was_charged = turn.input_tokens > 0
        self._pacer.answered(turn, self.clock(), usage)
        if was_charged:  # what it did not use may be enough for the head of the line
            self._wake()

    def failed(self, turn: CallPermit, usage: Mapping[str, int]) -> None:
        """Note that a call failed otherwise than by a rate limit, and what it cost."""
        self._pacer.failed(turn, self.clock(), usage)

    def not_sent(self, turn: CallPermit) -> None:
        """Give back the turn of a call that is not made after all."""
        self._pacer.not_sent(turn, self.clock())

    def connect_timed_out(self, turn: CallPermit) -> None:
        """Give back the turn of a call that found no connection in time."""
        self._pacer.connect_timed_out(turn, self.clock())

    async def rest(self, seconds: float) -> None:
        """Wait that long, or until the run stops."""
        if seconds <= 0 or self.stopped:
            return
        loop = asyncio.get_running_loop()
        alarm: asyncio.Future[None] = loop.create_future()
        timer = loop.call_later(seconds, _ring, alarm)
        self._resting[alarm] = None
        try:
            await alarm
        finally:
            self._resting.pop(alarm, None)
            timer.cancel()

    def stop(self) -> None:
        """Let nobody enter any more, and send everybody home who waits."""
        self.stopped = True
        self._wake()
        for alarm in self._resting:
            _ring(alarm)
        self._turnstile.open()

    def _wake(self) -> None:
        if self._asleep is not None:
            _ring(self._asleep)


_EARLY = 0.001
"""Seconds that a timer may ring before its time: the event loop's clock is coarse."""


def _ring(alarm: asyncio.Future[None]) -> None:
    if not alarm.done():
        alarm.set_result(None)
