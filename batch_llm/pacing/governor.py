"""Pacer for all calls that share a provider's limit: of runs, of shards in threads, and, by its share, of processes.

    detecting ──a rate limit──> cooldown ──it is over──> open ──an answer──> open, growing
                                   ^                       │
                                   └──── rate limit ──── probing: single calls at intervals

The governor is a set of numbers behind a lock: it has no clock, no task and no event loop, so that engines in several
threads can use it. `adaptive_rate` computes the rate of calls, and `token_bucket` its unused part.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Lock

from batch_llm.config import Limits

from .adaptive_rate import AdaptiveRate, RateCurve
from .limit_headers import windows
from .pacer import CallPermit
from .rejection_monitor import RejectionMonitor
from .token_bucket import TokenBucket
from .token_limits import TokenLimits

logger = logging.getLogger(__name__)

BURST_SECONDS = 0.1
TICK_SECONDS = 0.1
LOOK_SECONDS = 1.0
"""Longest time between two requests of a waiting call: limits, shares and cooldowns may change meanwhile."""

PROBE_SECONDS = 10.0
"""Seconds between two calls while even the first call after a cooldown meets a rate limit."""

PROBED_SECONDS = 2.0
"""Time for the first call after a cooldown to meet a rate limit, and for other processes to receive the news."""


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


@dataclass(frozen=True, slots=True)
class GovernorStatus:
    """Current state of a governor, for display.

    Attributes:
        rate: Calls per second that the whole scope may start; None as long as no call had to wait for it.
        share: Share of the rate that this process has.
        episodes: Number of cooldowns that calls of this process started.
        paused_seconds: Total length of these cooldowns in seconds.
    """

    rate: float | None
    share: float
    episodes: int
    paused_seconds: float


class Governor:
    """Pacer that keeps calls within a provider's limits, whether they are configured or detected.

    Without limits, it starts at 10 calls per second and doubles the rate while it is used and no rate limit occurs. A
    rate limit starts one cooldown for all calls. The rate then resumes below the one that met the limit, grows back to
    it, stays there, and probes for more. With `requests_per_minute`, it starts at that rate, evenly spaced, and still
    slows down after a rate limit. Token limits use an estimate before each call, which is corrected afterwards. Server
    errors do not change the rate.

    Pass one governor to all processors that share a provider's limit; they may run in several threads. The settings
    `slow_start_*` do not apply then. If the provider does not suggest a wait, a cooldown starts at half a second, or
    at `cooldown_seconds` if that is shorter.

    Args:
        limits: Known limits of the provider.
        output_tokens: Expected output tokens of an answer until there are answers; used for token limits.

    Attributes:
        has_answered: Whether any call was answered; a single `auth` failure does not stop a run then.

    Example:
        governor = Governor(Limits(requests_per_minute=600))
        processor = ParallelBatchProcessor(config, governor=governor)
    """

    def __init__(self, limits: Limits | None = None, *, output_tokens: float = 1000.0) -> None:
        self._lock = Lock()
        self._limits = limits or Limits()
        self._adaptive = AdaptiveRate(_a_second(self._limits.requests_per_minute))
        self._share = 1.0
        self._place = 0.0
        self._is_waiting = False
        self._calls = TokenBucket(BURST_SECONDS)
        self._tokens = TokenLimits(self._limits, output_tokens)
        self._latency = 0.2
        self._listeners: list[Callable[[float], None]] = []
        self._needed_until = -math.inf  # until then, other processes of the scope use the rate
        self._reopens_at = -math.inf
        self._connect_timed_out_at = -math.inf
        self._spent_until = -math.inf  # from the provider's headers
        self._proven = False  # a call that started after the latest cooldown was answered
        self._last_start = -math.inf
        self._first_start = math.inf  # since the latest cooldown
        self._looked_at = 0.0
        self._held = self._bound = self._felt = False
        self._started = self._calls_in_tick = 0
        self._rejections = RejectionMonitor()
        self._sample_at: float | None = None
        self._sample_started = 0
        self._sample_held = self._sample_short = False
        self._all_episodes = 0
        self._paused_seconds = 0.0
        self.episodes = 0
        self.version = 0
        self.has_answered = False

    # Methods for processors, see `Pacer`.

    def reserve(self, now: float, permit: CallPermit) -> float:
        """Return `now` and charge the call if it may start; else return a later time at which to ask again."""
        with self._lock:
            if now - self._looked_at >= TICK_SECONDS:
                self._look(now)
            start = max(self._reopens_at, self._spent_until)
            if self.episodes > 1:
                start = max(start, self._last_start + PROBE_SECONDS)
            if start <= now:
                start = self._calls.until(now, self._adaptive.rate * self._share, 1.0)
                if start > now:
                    self._held = self._sample_short = True
                if self._tokens.limits and (free := self._tokens.until(now, self._share, permit)) > now:
                    start, self._sample_short = max(start, free), True
            if start > now:
                return min(start, now + LOOK_SECONDS)
            self._charge(permit, 1)
            self._last_start = now
            if now < self._first_start:
                self._first_start = now
            return now

    def rate_limited(self, permit: CallPermit, now: float) -> bool:
        """Record a rate limit; return whether it starts a cooldown, whose length the caller then sets with `pause`."""
        with self._lock:
            self._tokens.record_usage(permit, {})
            self._rejections.count(now, refused=1)
            if permit.started < self._reopens_at:
                return False
            self._adaptive.accepted(-1, 0.0)
            # Calls that started well before this one would have met the rate limit by now.
            others_were_taken = permit.started - self._first_start > 2 * (now - permit.started)
            self.episodes = 1 if others_were_taken else self.episodes + 1
            self._all_episodes += 1
            if self.episodes == 1:
                self._cut(now)
            self._reopens_at = math.inf
            self.version += 1
            return True

    def pause(self, until: float, now: float) -> None:
        """Start a cooldown: no call starts before `until`; notify the listeners."""
        with self._lock:
            self._paused_seconds += max(0.0, until - now)
            self._close(until, now)
            listeners = list(self._listeners)
        for notify in listeners:
            notify(until)

    def answered(self, permit: CallPermit, now: float, usage: Mapping[str, int]) -> None:
        """Record an answer and its token usage; the rate grows only after a call from after the latest cooldown."""
        with self._lock:
            self.has_answered = True
            self._latency += 0.1 * (now - permit.started - self._latency)
            self._rejections.count(now, answered=1)
            if self._tokens.limits:
                self._tokens.learn(permit.size, usage)
                self._tokens.record_usage(permit, usage)
            if permit.started >= self._reopens_at:  # as in `_taken`, for every call
                self.episodes = 0
                self._proven = True

    def failed(self, permit: CallPermit, now: float, usage: Mapping[str, int]) -> None:
        """Refund the tokens that a failed call was not billed for; the rate does not change.

        A failed call that was billed counts as accepted by the provider.
        """
        with self._lock:
            self._tokens.record_usage(permit, usage)
            if any(usage.values()):
                self._taken(permit)

    def not_sent(self, permit: CallPermit, now: float) -> None:
        """Refund a call that was never sent to the provider."""
        with self._lock:
            self._charge(permit, -1)
            permit.input_tokens = permit.output_tokens = 0.0

    def connect_timed_out(self, permit: CallPermit, now: float) -> None:
        """Refund a call that got no connection in time, and cut the rate, because this machine is overloaded."""
        self.not_sent(permit, now)
        with self._lock:
            if permit.started >= self._connect_timed_out_at:
                self._connect_timed_out_at = now
                self._cut(now)

    def on_headers(self, headers: Mapping[str, str], now: float) -> None:
        """Apply the rate-limit headers of a response; names are in lower case.

        The rate never exceeds a reported limit of requests per minute. If any limit is used up, calls wait for its
        reset. Headers that cannot be parsed are ignored.
        """
        for window in windows(headers):
            with self._lock:
                if window.kind == "requests" and window.is_of_a_minute:
                    self._adaptive.on_limit_header(window.limit / 60)
                if window.wait:
                    self._spent_until = max(self._spent_until, now + window.wait)

    def too_large(self, size: int) -> str:
        """Return why a prompt of `size` characters can never be sent; empty if it can."""
        return self._tokens.too_large(size)

    def is_hopeless(self, now: float) -> bool:
        """Return whether nearly all calls met a rate limit for half an hour; if so, log a warning."""
        with self._lock:
            hopeless = self._rejections.warning(now)
        if hopeless:
            logger.warning(hopeless)
        return bool(hopeless)

    # Methods for limits and for processes that share a limit, called from any thread.

    def set_limits(self, limits: Limits) -> None:
        """Replace the known limits, from the next call on; equal limits change nothing."""
        with self._lock:
            if limits == self._limits:
                return
            if limits.requests_per_minute != self._limits.requests_per_minute:
                self._adaptive.set_ceiling(_a_second(limits.requests_per_minute))
            self._limits = limits
            self._tokens.set_limits(limits)

    def set_share(self, share: float, *, place: float = 0.0, is_waiting: bool = False) -> None:
        """Set the share of the limit that this process uses; the rest is for other processes.

        Args:
            share: Share of the limit, 0 to 1.
            place: Position of this process among all, 0 to 1: after a cooldown, they resume one after another.
            is_waiting: Whether the share will grow after others have reduced theirs. Until then the rate does not grow:
                a part of it is unused, so a rate that is too high would not be detected.
        """
        with self._lock:
            self._share, self._place, self._is_waiting = max(share, 1e-6), place, is_waiting

    def follow(self, curve: RateCurve, seconds: float) -> None:
        """Adopt the rate that another process has detected for the whole scope, `seconds` of growth ago.

        The rate continues to grow here as it does there. If it followed each step only after a report, this process
        would lag behind, and the other one would exceed the limit without a rate limit.
        """
        with self._lock:
            self._adaptive.follow(curve, seconds)

    def require_share(self, until: float) -> None:
        """Assume that other processes of the scope use the whole rate until the given time."""
        with self._lock:
            self._needed_until = until

    def pause_for_others(self, until: float, now: float, curve: RateCurve, episodes: int | None = None) -> None:
        """Start a cooldown because another process met a rate limit, and resume at the rate that it detected.

        During a cooldown of this process, the higher of both rates is used: a rate that is too high meets another rate
        limit and is corrected, but a rate that is too low is detected much later.

        Args:
            until: End of the cooldown.
            now: Current time.
            curve: Rate of the whole scope that the other process detected.
            episodes: Number of consecutive cooldowns of the other process; None if unknown. After more than one, the
                other process resumes first, alone, and reports another rate limit.
        """
        with self._lock:
            if now >= self._reopens_at or curve.rate > self._adaptive.rate:
                self._adaptive.follow(curve, 0.0)
            if episodes and episodes > 1:
                self.episodes, until = 0, until + PROBED_SECONDS
            if until > self._reopens_at:
                self._close(until, now)

    def listen(self, listener: Callable[[float], None]) -> None:
        """Register a function to call with the end of every cooldown that starts here; it must return immediately."""
        with self._lock:
            self._listeners.append(listener)

    def ignore(self, listener: Callable[[float], None]) -> None:
        """Remove a function that was registered with `listen`."""
        with self._lock:
            self._listeners.remove(listener)

    @property
    def rate(self) -> float | None:
        """Calls per second that this process may start."""
        return self._adaptive.rate * self._share

    @property
    def curve(self) -> RateCurve:
        """Rate of the whole scope and the state of its growth."""
        return self._adaptive.curve

    @property
    def limits(self) -> Limits:
        """Known limits of the provider."""
        return self._limits

    def status(self) -> GovernorStatus:
        """Return the current state for display."""
        with self._lock:
            is_felt = self._felt or self._limits != Limits()
            rate = self._adaptive.rate if is_felt else None
            return GovernorStatus(rate, self._share, self._all_episodes, self._paused_seconds)

    def sample_usage(self, now: float) -> UsageSample:
        """Return the usage since the last sample, from which the shares of the limit are computed."""
        with self._lock:
            seconds = now - self._sample_at if self._sample_at is not None else 0.0
            sample = UsageSample(
                curve=self._adaptive.curve,
                started=(self._started - self._sample_started) / seconds if seconds > 0 else 0.0,
                held=self._sample_held or self._held,
                short=self._sample_short,
                paused_until=self._reopens_at,
            )
            self._sample_at, self._sample_started = now, self._started
            self._sample_held = self._sample_short = False
            return sample

    # Internal methods; the caller has the lock.

    def _taken(self, permit: CallPermit) -> None:
        """Record that the provider accepted a call; calls from before the latest cooldown are ignored."""
        if permit.started >= self._reopens_at:
            self.episodes = 0
            self._proven = True

    def _look(self, now: float) -> None:
        """At the end of a tick, let the rate grow if it was used."""
        seconds, calls = now - self._looked_at, self._calls_in_tick
        self._calls_in_tick, self._looked_at = 0, now
        self._adaptive.accepted(calls, seconds)
        used = (self._held or now < self._needed_until) and not self._is_waiting
        if used and self._proven and seconds < 2 * LOOK_SECONDS:
            self._adaptive.grow(seconds, self._latency)
        self._bound, self._held = self._held, False
        self._sample_held = self._sample_held or self._bound
        self._felt = self._felt or self._bound

    def _charge(self, permit: CallPermit, sign: int) -> None:
        self._calls.take(sign)
        self._started += sign
        self._calls_in_tick += sign
        if permit.input_tokens:
            self._tokens.take(sign * permit.input_tokens, sign * permit.output_tokens)

    def _cut(self, now: float) -> None:
        self._adaptive.accepted(self._calls_in_tick, max(0.0, now - self._looked_at))
        self._calls_in_tick, self._looked_at = 0, now
        self._adaptive.cut(self._share, bound=self._bound or self._held)

    def _close(self, until: float, now: float) -> None:
        self._reopens_at = self._looked_at = until
        self._adaptive.paused(until - now)
        self._proven = False
        self._last_start = -math.inf  # the first probe need not wait
        self._first_start = math.inf
        self._calls.empty_until(until, self._place)
        self.version += 1


def _a_second(a_minute: float | None) -> float | None:
    return None if a_minute is None else a_minute / 60
