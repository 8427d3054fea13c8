"""Rate at which one process starts calls: its share of the rate of a scope, with cooldowns.

    open ──on_rate_limit()──> closed, for an unknown time ──close(until)──> closed until then ──> open
     ^                                                                                             │
     └───────────── an answer ── probing: single calls at intervals <──── another rate limit ──────┘

`adaptive_rate` computes the rate of the scope, and `token_bucket` its unused part.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from .adaptive_rate import AdaptiveRate, RateCurve
from .pacer import PacerState
from .token_bucket import TokenBucket

BURST_SECONDS = 0.1
TICK_SECONDS = 0.1
LOOK_SECONDS = 1.0
"""Longest time between two requests of a waiting call: limits, shares and cooldowns may change meanwhile."""

PROBE_SECONDS = 10.0
"""Seconds between two calls while even the first call after a cooldown meets a rate limit."""


@dataclass(frozen=True, slots=True)
class UsageSample:
    """Usage of a governor since the last sample.

    Attributes:
        curve: Rate of the whole scope, at most the configured one.
        started: Calls per second that this process started.
        held: Whether calls had to wait for the rate, so a higher rate would have been used.
        short: Whether calls had to wait for the rate or for tokens, so a larger share would have been used.
        paused_until: End of the latest cooldown, on the event loop's clock; -inf if there was none.
    """

    curve: RateCurve
    started: float
    held: bool
    short: bool
    paused_until: float


class CallRate:
    """Rate of the calls of one process, and how much of it is used; the caller of each method has the governor's lock.

    Args:
        per_second: Configured number of calls per second; None if it is not known.

    Attributes:
        adaptive: Rate of the whole scope.
        share: Share of it that this process has.
        position: Position of this process among all in the scope, 0 to 1.
        is_waiting: Whether the share will grow after others have reduced theirs.
        required_until: Time until which other processes of the scope use the rate.
        exhausted_until: Time at which a limit that is used up, by the provider's headers, is reset.
        reopens_at: End of the latest cooldown.
        state: State of the governor as a pacer.
        was_ever_used_up: Whether calls ever had to wait for the rate.
    """

    def __init__(self, per_second: float | None) -> None:
        self.adaptive = AdaptiveRate(per_second)
        self.share = 1.0
        self.position = 0.0
        self.is_waiting = False
        self.required_until = self.exhausted_until = self.reopens_at = -math.inf
        self.state = PacerState()
        self.was_ever_used_up = False
        self._bucket = TokenBucket(BURST_SECONDS)
        self._latency = 0.2
        self._is_accepted = False  # a call that started after the latest cooldown was accepted
        self._last_start = -math.inf
        self._first_start = math.inf  # since the latest cooldown
        self._tick_began = 0.0
        self._started = self._started_in_tick = 0
        self._is_used_up = self._was_used_up = False  # in this tick, in the last one
        self._sampled_at: float | None = None
        self._sampled_started = 0
        self._sample_used_up = self._sample_short = False

    @property
    def rate(self) -> float:
        """Calls per second that this process may start."""
        return self.adaptive.rate * self.share

    def until(self, now: float) -> float:
        """Return when a call may start: `now`, or a later time."""
        if now - self._tick_began >= TICK_SECONDS:
            self._end_tick(now)
        start = max(self.reopens_at, self.exhausted_until)
        if self.state.episodes > 1:
            start = max(start, self._last_start + PROBE_SECONDS)
        if start <= now:
            start = self._bucket.until(now, self.adaptive.rate * self.share, 1.0)
            if start > now:
                self._is_used_up = self._sample_short = True
        return start

    def start(self, now: float) -> None:
        """Charge a call that starts."""
        self._bucket.take(1)
        self._started += 1
        self._started_in_tick += 1
        self._last_start = now
        if now < self._first_start:
            self._first_start = now

    def refund(self) -> None:
        """Refund a call that was charged and never sent."""
        self._bucket.take(-1)
        self._started -= 1
        self._started_in_tick -= 1

    def on_tokens_short(self) -> None:
        """Record that a call had to wait for tokens."""
        self._sample_short = True

    def on_answer(self, started: float, now: float) -> None:
        """Record an answer to a call."""
        self.state.has_answered = True
        self._latency += 0.1 * (now - started - self._latency)
        self.on_accepted(started)

    def on_accepted(self, started: float) -> None:
        """Record that the provider accepted a call; calls from before the latest cooldown are ignored."""
        if started >= self.reopens_at:
            self.state.episodes = 0
            self._is_accepted = True

    def on_rate_limit(self, started: float, now: float) -> bool:
        """Record a rate limit; return whether it starts a cooldown, whose end is then set with `close`."""
        if started < self.reopens_at:
            return False
        self.adaptive.accepted(-1, 0.0)
        # Calls that started well before this one would have met the rate limit by now.
        others_were_accepted = started - self._first_start > 2 * (now - started)
        self.state.episodes = 1 if others_were_accepted else self.state.episodes + 1
        if self.state.episodes == 1:
            self.cut(now)
        self.reopens_at = math.inf
        self.state.version += 1
        return True

    def close(self, until: float, now: float) -> None:
        """Start a cooldown: no call starts before `until`."""
        self.reopens_at = self._tick_began = until
        self.adaptive.paused(until - now)
        self._is_accepted = False
        self._last_start = -math.inf  # the first probe need not wait
        self._first_start = math.inf
        self._bucket.empty_until(until, self.position)
        self.state.rate = self.rate
        self.state.version += 1

    def cut(self, now: float) -> None:
        """Cut the rate of the scope."""
        self.adaptive.accepted(self._started_in_tick, max(0.0, now - self._tick_began))
        self._started_in_tick, self._tick_began = 0, now
        self.adaptive.cut(self.share, bound=self._was_used_up or self._is_used_up)

    def sample(self, now: float) -> UsageSample:
        """Return the usage since the last sample."""
        seconds = now - self._sampled_at if self._sampled_at is not None else 0.0
        sample = UsageSample(
            curve=self.adaptive.curve,
            started=(self._started - self._sampled_started) / seconds if seconds > 0 else 0.0,
            held=self._sample_used_up or self._is_used_up,
            short=self._sample_short,
            paused_until=self.reopens_at,
        )
        self._sampled_at, self._sampled_started = now, self._started
        self._sample_used_up = self._sample_short = False
        return sample

    def _end_tick(self, now: float) -> None:
        """At the end of a tick, let the rate grow if it was used."""
        seconds, calls = now - self._tick_began, self._started_in_tick
        self._started_in_tick, self._tick_began = 0, now
        self.adaptive.accepted(calls, seconds)
        is_used = (self._is_used_up or now < self.required_until) and not self.is_waiting
        if is_used and self._is_accepted and seconds < 2 * LOOK_SECONDS:
            self.adaptive.grow(seconds, self._latency)
        self._was_used_up, self._is_used_up = self._is_used_up, False
        self._sample_used_up = self._sample_used_up or self._was_used_up
        self.was_ever_used_up = self.was_ever_used_up or self._was_used_up
