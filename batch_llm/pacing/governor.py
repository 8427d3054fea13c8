"""One pace for everything that shares a provider's limit: runs, shards in threads, and, by its share, processes.

    finding out ──a call is refused──> paused ──the pause is over──> open ──an answer──> open, growing
                                         ^                            │
                                         └──── refused again ──── probing: one call now and then

It is a bundle of numbers behind a lock: it has no clock, no task and no loop, so that engines in several threads can
ask it. How fast calls may start is in `_found_rate`, what is left of that in `_allowance`.
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
from .refusals import RefusalMonitor
from .token_bucket import TokenBucket
from .token_limits import TokenLimits

logger = logging.getLogger(__name__)

BURST_SECONDS = 0.1
TICK_SECONDS = 0.1
LOOK_SECONDS = 1.0
"""Between two looks of somebody who waits: limits, shares and pauses may change from outside."""

PROBE_SECONDS = 10.0
"""Between two calls while a provider refuses even the first one after a pause."""

PROBED_SECONDS = 2.0
"""For the first call after a pause to be refused, and for others to hear of it."""


@dataclass(frozen=True, slots=True)
class UsageSample:
    """What a governor did since it was last asked.

    Attributes:
        curve: Calls a second that the whole scope may start: found, and no more than was said.
        started: Calls a second that this process started.
        held: Whether calls had to wait for the rate, so that more of it would have been used.
        short: Whether they had to wait for the rate or for tokens, so that a larger share would have been used.
        paused_until: When the latest pause ends or ended, by the event loop's clock; -inf where there was none.
    """

    curve: RateCurve
    started: float
    held: bool
    short: bool
    paused_until: float


@dataclass(frozen=True, slots=True)
class GovernorStatus:
    """What is in force, for people to see.

    Attributes:
        rate: Calls a second that the whole scope may start; None while nothing has come near it.
        share: This process's part of it.
        episodes: Rate limits that this process's calls have met, since its start.
        paused_seconds: How long they paused calls in all.
    """

    rate: float | None
    share: float
    episodes: int
    paused_seconds: float


class Governor:
    """Paces calls by what a provider allows: found by itself, or said.

    Without limits it begins at 10 calls a second and doubles while that is used and nothing is refused. A rate limit
    pauses everything once, then the rate goes on below the one that was refused and grows back to it, stays there, and
    tries more. With `requests_per_minute` it begins there, evenly spaced, and still gives way when it is refused. Token
    limits are kept by an estimate before each call, which is corrected after it. Server errors change nothing.

    Give one governor to all processors that share a provider's limit: `ParallelBatchProcessor(config,
    governor=governor)`; they may run in several threads. `slow_start_items` and its delays don't apply then, and where
    the provider names no wait, a pause begins at half a second, or `cooldown_seconds` if that is shorter.

    Args:
        limits: What is known of the provider's limits.
        output_tokens: Expected of an answer, until there have been some; for token limits.

    Attributes:
        has_answered: Whether a call was ever answered; a single `auth` failure does not end a run then.
    """

    def __init__(self, limits: Limits | None = None, *, output_tokens: float = 1000.0) -> None:
        self._lock = Lock()
        self._limits = limits or Limits()
        self._found = AdaptiveRate(_a_second(self._limits.requests_per_minute))
        self._share = 1.0
        self._place = 0.0
        self._is_waiting = False
        self._calls = TokenBucket(BURST_SECONDS)
        self._tokens = TokenLimits(self._limits, output_tokens)
        self._latency = 0.2
        self._told: list[Callable[[float], None]] = []
        self._needed_until = -math.inf  # by somebody else of the scope
        self._reopens_at = -math.inf
        self._strained_at = -math.inf
        self._spent_until = -math.inf  # as the provider's headers tell
        self._proven = False  # by an answer to a call that started after the latest pause
        self._last_start = -math.inf
        self._first_start = math.inf  # since the latest pause
        self._looked_at = 0.0
        self._held = self._bound = self._felt = False
        self._started = self._calls_in_tick = 0
        self._refused_share = RefusalMonitor()
        self._stock_at: float | None = None
        self._stock_started = 0
        self._stock_held = self._stock_short = False
        self._all_episodes = 0
        self._paused_seconds = 0.0
        self.episodes = 0
        self.version = 0
        self.has_answered = False

    # What a processor asks and tells, see `Pacer`.

    def reserve(self, now: float, turn: CallPermit) -> float:
        """Return `now`, and charge for `turn`, if it may start; else a later time at which to ask again."""
        with self._lock:
            if now - self._looked_at >= TICK_SECONDS:
                self._look(now)
            start = max(self._reopens_at, self._spent_until)
            if self.episodes > 1:
                start = max(start, self._last_start + PROBE_SECONDS)
            if start <= now:
                start = self._calls.until(now, self._found.rate * self._share, 1.0)
                if start > now:
                    self._held = self._stock_short = True
                if self._tokens.limits and (free := self._tokens.until(now, self._share, turn)) > now:
                    start, self._stock_short = max(start, free), True
            if start > now:
                return min(start, now + LOOK_SECONDS)
            self._charge(turn, 1)
            self._last_start = now
            if now < self._first_start:
                self._first_start = now
            return now

    def rate_limited(self, turn: CallPermit, now: float) -> bool:
        """Note a rate limit; whether it begins an episode, whose length the caller then tells with `pause`."""
        with self._lock:
            self._tokens.record_usage(turn, {})
            self._refused_share.count(now, refused=1)
            if turn.started < self._reopens_at:
                return False
            self._found.accepted(-1, 0.0)
            # Those that started well before it would have been refused by now, if they were to be.
            others_were_taken = turn.started - self._first_start > 2 * (now - turn.started)
            self.episodes = 1 if others_were_taken else self.episodes + 1
            self._all_episodes += 1
            if self.episodes == 1:
                self._cut(now)
            self._reopens_at = math.inf
            self.version += 1
            return True

    def pause(self, until: float, now: float) -> None:
        """Let no call start before `until`, and tell those who share the limit."""
        with self._lock:
            self._paused_seconds += max(0.0, until - now)
            self._close(until, now)
            told = list(self._told)
        for tell in told:
            tell(until)

    def answered(self, turn: CallPermit, now: float, usage: Mapping[str, int]) -> None:
        """Note an answer and what it cost; one to a call from before the latest pause proves nothing."""
        with self._lock:
            self.has_answered = True
            self._latency += 0.1 * (now - turn.started - self._latency)
            self._refused_share.count(now, answered=1)
            if self._tokens.limits:
                self._tokens.learn(turn.size, usage)
                self._tokens.record_usage(turn, usage)
            if turn.started >= self._reopens_at:  # as in `_taken`, for every call
                self.episodes = 0
                self._proven = True

    def failed(self, turn: CallPermit, now: float, usage: Mapping[str, int]) -> None:
        """Take back the tokens that a failed call was not billed; the provider's trouble is no limit.

        A call that was billed is one that the provider took, whatever its answer was worth.
        """
        with self._lock:
            self._tokens.record_usage(turn, usage)
            if any(usage.values()):
                self._taken(turn)

    def not_sent(self, turn: CallPermit, now: float) -> None:
        """Take back what was charged for a call that never reached the provider."""
        with self._lock:
            self._charge(turn, -1)
            turn.input_tokens = turn.output_tokens = 0.0

    def connect_timed_out(self, turn: CallPermit, now: float) -> None:
        """Take back a call that found no connection in time, and go slower: it is this side that has too much to do."""
        self.not_sent(turn, now)
        with self._lock:
            if turn.started >= self._strained_at:
                self._strained_at = now
                self._cut(now)

    def on_headers(self, headers: Mapping[str, str], now: float) -> None:
        """Take note of what a response's headers tell of the limits; names are in lower case.

        A limit of requests a minute is never exceeded; where nothing is left of any limit, calls wait for its reset.
        What a provider sends there may be anything: what cannot be read changes nothing and raises nothing.
        """
        for window in windows(headers):
            with self._lock:
                if window.kind == "requests" and window.is_of_a_minute:
                    self._found.on_limit_header(window.limit / 60)
                if window.wait:
                    self._spent_until = max(self._spent_until, now + window.wait)

    def too_large(self, size: int) -> str:
        """Return why a prompt of `size` characters can never be sent; empty where it can."""
        return self._tokens.too_large(size)

    def is_hopeless(self, now: float) -> bool:
        """Whether nearly everything was refused for half an hour; says so in the log."""
        with self._lock:
            hopeless = self._refused_share.warning(now)
        if hopeless:
            logger.warning(hopeless)
        return bool(hopeless)

    # What those who share the limit say, from any thread.

    def set_limits(self, limits: Limits) -> None:
        """Change what is known of the limits, from the next call on; the same ones again change nothing."""
        with self._lock:
            if limits == self._limits:
                return
            if limits.requests_per_minute != self._limits.requests_per_minute:
                self._found.set_ceiling(_a_second(limits.requests_per_minute))
            self._limits = limits
            self._tokens.set_limits(limits)

    def set_share(self, share: float, *, place: float = 0.0, is_waiting: bool = False) -> None:
        """Take so much of the whole, 0 to 1; the rest is for other processes.

        Args:
            share: How much.
            place: Where this process stands in a row of all, 0 to 1: after a pause they come back one by one.
            is_waiting: Whether more of it is to come, when others have given way. Until then the rate does not grow:
                not all of it is shared out, so that nobody would tell that it is too high.
        """
        with self._lock:
            self._share, self._place, self._is_waiting = max(share, 1e-6), place, is_waiting

    def follow(self, curve: RateCurve, seconds: float) -> None:
        """Take over the rate that another process has found for the whole scope, `seconds` of growth ago.

        It goes on growing here as it does there: a process that had to be told of each step would lag behind, and the
        one that finds the rate would go beyond the limit without a refusal.
        """
        with self._lock:
            self._found.follow(curve, seconds)

    def require_share(self, until: float) -> None:
        """Take it that others of the scope use the rate up until then."""
        with self._lock:
            self._needed_until = until

    def pause_for_others(self, until: float, now: float, curve: RateCurve, episodes: int | None = None) -> None:
        """Pause, as another process met a rate limit, and go on at the rate that it has found by that.

        Where this one pauses already, the higher of both: what is too high is refused once more, and found; what is
        too low is found much later.

        Args:
            until: When the pause ends.
            now: The time.
            curve: What the other one takes the scope to be allowed.
            episodes: Rate limits that it met in a row; None where it is not known. After more than one it goes first,
                alone, and would tell if it was refused again.
        """
        with self._lock:
            if now >= self._reopens_at or curve.rate > self._found.rate:
                self._found.follow(curve, 0.0)
            if episodes and episodes > 1:
                self.episodes, until = 0, until + PROBED_SECONDS
            if until > self._reopens_at:
                self._close(until, now)

    def listen(self, told: Callable[[float], None]) -> None:
        """Have `told` called with the end of every pause that begins here; it must return at once."""
        with self._lock:
            self._told.append(told)

    def ignore(self, told: Callable[[float], None]) -> None:
        """Call `told` no more."""
        with self._lock:
            self._told.remove(told)

    @property
    def rate(self) -> float | None:
        """Calls a second that this process may start."""
        return self._found.rate * self._share

    @property
    def curve(self) -> RateCurve:
        """Calls a second that the whole scope may start, and how that grows."""
        return self._found.curve

    @property
    def limits(self) -> Limits:
        """What is known of the limits."""
        return self._limits

    def status(self) -> GovernorStatus:
        """Return what is in force."""
        with self._lock:
            is_felt = self._felt or self._limits != Limits()
            rate = self._found.rate if is_felt else None
            return GovernorStatus(rate, self._share, self._all_episodes, self._paused_seconds)

    def sample_usage(self, now: float) -> UsageSample:
        """Return what happened since the last time; for the one who shares the limit out."""
        with self._lock:
            seconds = now - self._stock_at if self._stock_at is not None else 0.0
            stock = UsageSample(
                curve=self._found.curve,
                started=(self._started - self._stock_started) / seconds if seconds > 0 else 0.0,
                held=self._stock_held or self._held,
                short=self._stock_short,
                paused_until=self._reopens_at,
            )
            self._stock_at, self._stock_started = now, self._started
            self._stock_held = self._stock_short = False
            return stock

    # Behind the lock.

    def _taken(self, turn: CallPermit) -> None:
        """Note that the provider took a call; one from before the latest pause proves nothing."""
        if turn.started >= self._reopens_at:
            self.episodes = 0
            self._proven = True

    def _look(self, now: float) -> None:
        """At the end of a tick, see what was used of the rate, and grow if it was."""
        seconds, calls = now - self._looked_at, self._calls_in_tick
        self._calls_in_tick, self._looked_at = 0, now
        self._found.accepted(calls, seconds)
        used = (self._held or now < self._needed_until) and not self._is_waiting
        if used and self._proven and seconds < 2 * LOOK_SECONDS:
            self._found.grow(seconds, self._latency)
        self._bound, self._held = self._held, False
        self._stock_held = self._stock_held or self._bound
        self._felt = self._felt or self._bound

    def _charge(self, turn: CallPermit, sign: int) -> None:
        self._calls.take(sign)
        self._started += sign
        self._calls_in_tick += sign
        if turn.input_tokens:
            self._tokens.take(sign * turn.input_tokens, sign * turn.output_tokens)

    def _cut(self, now: float) -> None:
        self._found.accepted(self._calls_in_tick, max(0.0, now - self._looked_at))
        self._calls_in_tick, self._looked_at = 0, now
        self._found.cut(self._share, bound=self._bound or self._held)

    def _close(self, until: float, now: float) -> None:
        self._reopens_at = self._looked_at = until
        self._found.paused(until - now)
        self._proven = False
        self._last_start = -math.inf  # the first probe need not wait
        self._first_start = math.inf
        self._calls.empty_until(until, self._place)
        self.version += 1


def _a_second(a_minute: float | None) -> float | None:
    return None if a_minute is None else a_minute / 60
