"""Gate of a run: calls wait for their start in one queue, and the first in the queue asks the pacer.

    arriving ──the queue is empty and the pacer agrees─────────────────┐
        │                                                              v
        └──> queued ──first──> asking, sleeping ──the pacer agrees──> throttle ──> started
                 ^                                                       │
                 └──────── a cooldown started meanwhile: void ───────────┘

    stop(), from any state ──> stopped: all waits end, and no call enters any more

A cooldown is a number in the pacer and is owned by no caller, so cancelling a caller does not affect the others. Calls
that the pacer admits at the same time pass the loop throttle, so they start no faster than the event loop can handle.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping

from .clock import loop_clock
from .loop_throttle import LoopThrottle
from .pacer import CallOutcome, CallPermit, Pacer

_NO_USAGE: Mapping[str, int] = {}


class Gate:
    """Gate that all calls of a run pass before they start.

    Attributes:
        clock: Clock of the event loop.
        too_large: Function that returns why a prompt of so many characters can never be sent; empty if it can.
        state: State of the pacer.
        stopped: Whether no further call may start.
    """

    def __init__(self, pacer: Pacer) -> None:
        self._pacer = pacer
        self.clock = loop_clock()
        self.too_large = pacer.too_large
        self.state = pacer.state
        self._queue_lock = asyncio.Lock()
        self._waiting = 0  # in the queue, the first included
        self._first_alarm: asyncio.Future[None] | None = None  # of the first in the queue
        self._first_woke_at = -math.inf
        self._backoffs: dict[asyncio.Future[None], None] = {}
        self._throttle = LoopThrottle()
        self.stopped = False

    @property
    def is_hopeless(self) -> bool:
        """Whether nearly all calls have met a rate limit for too long."""
        return self._pacer.is_hopeless(self.clock())

    def enter_at_once(self, size: int) -> CallPermit | None:
        """Return a permit if there is nothing to wait for; None if the caller has to await `enter`."""
        permit, now = CallPermit(size), self.clock()
        if self._waiting or self.stopped or self._throttle.is_closed(now) or self._pacer.reserve(now, permit) > now:
            return None
        self._throttle.pass_through(now)
        permit.started = now
        return permit

    async def enter(self, size: int) -> CallPermit | None:
        """Wait for a permit for a prompt of `size` characters and return it; return None once the run stops."""
        permit, pacer = CallPermit(size), self._pacer
        while not self.stopped:
            due = now = self.clock()
            if self._waiting or pacer.reserve(now, permit) > now:
                due, now = await self._wait_in_queue(permit)
                if self.stopped:
                    break
            version = self.state.version
            if self._throttle.is_closed(now):
                await self._throttle.wait()
                now = max(now, self.clock())
            else:
                self._throttle.pass_through(now, seconds_late=now - due)
            if version == self.state.version and not self.stopped:
                permit.started = now
                return permit
            pacer.finish(permit, now, "not sent", _NO_USAGE)
        return None

    async def _wait_in_queue(self, permit: CallPermit) -> tuple[float, float]:
        """Wait in the queue until the pacer agrees; return when the call could have started, and the current time.

        The difference between both times is the delay by a busy event loop. If the pacer delayed no call since this one
        arrived, it is the whole wait.
        """
        clock = self.clock
        arrived = clock()
        self._waiting += 1
        try:
            async with self._queue_lock:
                now = clock()
                due = now if self._first_woke_at >= arrived else arrived
                while not self.stopped and (start := self._pacer.reserve(now, permit)) > now:
                    slept = await self._sleep(start)
                    now = max(clock(), start) if slept else clock()  # a timer may fire a moment early
                    due, self._first_woke_at = start if slept else now, now
                return due, now
        finally:
            self._waiting -= 1

    async def _sleep(self, until: float) -> bool:
        """Sleep as the first in the queue; return False if woken earlier."""
        loop = asyncio.get_running_loop()
        alarm = self._first_alarm = loop.create_future()
        timer = loop.call_at(until, _ring, alarm) if until < math.inf else None
        try:
            await alarm
        finally:
            self._first_alarm = None
            if timer is not None:
                timer.cancel()
        return timer is not None and timer.when() <= loop.time() + _TIMER_RESOLUTION

    def finish(self, permit: CallPermit, outcome: CallOutcome, usage: Mapping[str, int] = _NO_USAGE) -> bool:
        """Record the outcome of a call and its usage; return whether to call `set_cooldown_end` then."""
        was_charged = permit.input_tokens > 0
        starts_cooldown = self._pacer.finish(permit, self.clock(), outcome, usage)
        if was_charged:  # its unused tokens may be enough for the first call in the queue
            self._wake()
        return starts_cooldown

    def set_cooldown_end(self, until: float) -> None:
        """Start a cooldown: no call starts before `until`."""
        self._pacer.set_cooldown_end(until, self.clock())
        self._wake()

    async def back_off(self, seconds: float) -> None:
        """Wait for `seconds`, or until the run stops."""
        if seconds <= 0 or self.stopped:
            return
        loop = asyncio.get_running_loop()
        alarm: asyncio.Future[None] = loop.create_future()
        timer = loop.call_later(seconds, _ring, alarm)
        self._backoffs[alarm] = None
        try:
            await alarm
        finally:
            self._backoffs.pop(alarm, None)
            timer.cancel()

    def stop(self) -> None:
        """Close the gate for good and end all waits."""
        self.stopped = True
        self._wake()
        for alarm in self._backoffs:
            _ring(alarm)
        self._throttle.open()

    def _wake(self) -> None:
        if self._first_alarm is not None:
            _ring(self._first_alarm)


_TIMER_RESOLUTION = 0.001
"""Seconds that a timer may fire too early, because the event loop's clock is coarse."""


def _ring(alarm: asyncio.Future[None]) -> None:
    if not alarm.done():
        alarm.set_result(None)
