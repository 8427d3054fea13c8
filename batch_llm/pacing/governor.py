"""Pacer for all calls that share a provider's limit: of runs, of shards in threads, and, by its share, of processes.

The governor is a set of numbers behind a lock: it has no clock, no task and no event loop, so that engines in several
threads can use it. `call_rate` has the rate and the cooldowns, `token_limits` the tokens, and `scope_port` is the
interface for other processes that share the limit.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from threading import Lock

from batch_llm.config import Limits

from .call_rate import LOOK_SECONDS, CallRate
from .limit_headers import windows
from .pacer import CallOutcome, CallPermit
from .rejection_monitor import RejectionMonitor
from .scope_port import ScopePort
from .token_limits import TokenLimits

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class GovernorStatus:
    """Current state of a governor, for display.

    Attributes:
        rate: Calls per second that the whole scope may start; None as long as no call had to wait for it.
        share: Share of the rate that this process has.
        episodes: Number of cooldowns that calls of this process started.
        paused_seconds: Total length of these cooldowns in seconds.
        is_limited: Whether the rate is a limit that was configured, reported by the provider or met, not the rate to
            which it has grown so far.
    """

    rate: float | None
    share: float
    episodes: int
    paused_seconds: float
    is_limited: bool


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
        scope: Interface for the processes that share the limit.
        state: State as a pacer.

    Example:
        governor = Governor(Limits(requests_per_minute=600))
        processor = ParallelBatchProcessor(config, governor=governor)
    """

    def __init__(self, limits: Limits | None = None, *, output_tokens: float = 1000.0) -> None:
        self._lock = Lock()
        self._limits = limits or Limits()
        self._rate = CallRate(_per_second(self._limits.requests_per_minute))
        self._tokens = TokenLimits(self._limits, output_tokens)
        self._rejections = RejectionMonitor()
        self._connect_timed_out_at = -math.inf
        self._episodes = 0
        self._paused_seconds = 0.0
        self.scope = ScopePort(self._lock, self._rate)
        self.state = self._rate.state

    def reserve(self, now: float, permit: CallPermit) -> float:
        """Return `now` and charge the call if it may start; else return a later time at which to ask again."""
        with self._lock:
            start = self._rate.until(now)
            if start <= now and self._tokens.limits:
                start = self._tokens.until(now, self._rate.share, permit)
                if start > now:
                    self._rate.on_tokens_short()
            if start > now:
                return min(start, now + LOOK_SECONDS)
            self._rate.start(now)
            if permit.input_tokens:
                self._tokens.take(permit.input_tokens, permit.output_tokens)
            return now

    def finish(self, permit: CallPermit, now: float, outcome: CallOutcome, usage: Mapping[str, int]) -> bool:
        """Record the outcome of a call and its token usage; return whether it starts a cooldown.

        The estimated tokens of the call are replaced by its usage. The rate grows only after a call from after the
        latest cooldown was accepted, as shown by an answer or a bill. A call that got no connection in time cuts the
        rate, because this machine is overloaded; other failures do not change it.
        """
        with self._lock:
            if self._tokens.limits:
                self._tokens.record_usage(permit, usage)
            if outcome == "answered":
                self._rejections.count(now, answered=1)
                if self._tokens.limits:
                    self._tokens.learn(permit.size, usage)
                self._rate.on_answer(permit.started, now)
            elif outcome == "rate limited":
                self._rejections.count(now, refused=1)
                starts_cooldown = self._rate.on_rate_limit(permit.started, now)
                self._episodes += starts_cooldown
                return starts_cooldown
            elif outcome == "failed":
                if any(usage.values()):
                    self._rate.on_accepted(permit.started)
            else:
                self._rate.refund()
                if outcome == "connect timed out" and permit.started >= self._connect_timed_out_at:
                    self._connect_timed_out_at = now
                    self._rate.cut(now)
            return False

    def set_cooldown_end(self, until: float, now: float) -> None:
        """Start a cooldown: no call starts before `until`; notify the other processes of the scope."""
        with self._lock:
            self._paused_seconds += max(0.0, until - now)
            self._rate.close(until, now)
        self.scope.notify(until)

    def on_headers(self, headers: Mapping[str, str], now: float) -> None:
        """Apply the rate-limit headers of a response; names are in lower case.

        The rate never exceeds a reported limit of requests per minute. If any limit is used up, calls wait for its
        reset. Headers that cannot be parsed are ignored.
        """
        for window in windows(headers):
            with self._lock:
                if window.kind == "requests" and window.is_of_a_minute:
                    self._rate.adaptive.on_limit_header(window.limit / 60)
                if window.wait:
                    self._rate.exhausted_until = max(self._rate.exhausted_until, now + window.wait)

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

    def set_limits(self, limits: Limits) -> None:
        """Replace the known limits, from the next call on; equal limits change nothing."""
        with self._lock:
            if limits == self._limits:
                return
            if limits.requests_per_minute != self._limits.requests_per_minute:
                self._rate.adaptive.set_ceiling(_per_second(limits.requests_per_minute))
            self._limits = limits
            self._tokens.set_limits(limits)

    @property
    def rate(self) -> float:
        """Calls per second that this process may start."""
        return self._rate.rate

    @property
    def limits(self) -> Limits:
        """Known limits of the provider."""
        return self._limits

    def status(self) -> GovernorStatus:
        """Return the current state for display."""
        with self._lock:
            is_known = self._rate.was_ever_used_up or self._limits != Limits()
            rate = self._rate.adaptive.rate if is_known else None
            is_limited = self._limits.requests_per_minute is not None or self._rate.adaptive.is_limited
            return GovernorStatus(rate, self._rate.share, self._episodes, self._paused_seconds, is_limited)


def _per_second(per_minute: float | None) -> float | None:
    return None if per_minute is None else per_minute / 60
