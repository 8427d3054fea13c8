"""Pacer of a run without a governor: full speed, a cooldown after a rate limit, then a slow start.

open ──rate_limited()──> closed, the length is not known yet ──pause(until)──> closed
 ^                                                                                       │
 └──────── after `slow_start_items` spaced starts ────── slow start <── the clock reaches `until`
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from batch_llm.config import RateLimitConfig

from .pacer import CallPermit


class SlowStart:
    """Pacer with cooldowns and slow starts, but without a rate.

    Attributes:
        episodes: Number of consecutive cooldowns without a success between them.
        version: Number that changes whenever granted permits of calls that have not started become void.
        has_answered: Whether any call was answered.
    """

    def __init__(self, config: RateLimitConfig) -> None:
        self._config = config
        self._reopens_at = -math.inf
        self._next_start = -math.inf
        self._slow_starts = config.slow_start_items  # none remain: a new run starts at full speed
        self.episodes = 0
        self.version = 0
        self.has_answered = False

    @property
    def rate(self) -> None:
        """Always None: the rate is unlimited."""
        return None

    def reserve(self, now: float, permit: CallPermit) -> float:
        """Return `now` if the call may start; else return a later time at which to ask again."""
        if self._reopens_at > now or self._next_start > now:
            return max(self._reopens_at, self._next_start)
        if self._slow_starts < self._config.slow_start_items:
            self._next_start = now + self._spacing(self._slow_starts)
            self._slow_starts += 1
        return now

    def _spacing(self, index: int) -> float:
        config = self._config
        first, last = config.slow_start_initial_delay, config.slow_start_final_delay
        return first + (last - first) * index / max(1, config.slow_start_items - 1)

    def rate_limited(self, permit: CallPermit, now: float) -> bool:
        """Record a rate limit; return False if the call started before the end of the latest cooldown.

        Such a call belongs to the latest cooldown. After a new one started, no call starts until the caller has set its
        length with `pause`.
        """
        if permit.started < self._reopens_at:
            return False
        self.episodes += 1
        self._reopens_at = math.inf
        self.version += 1
        return True

    def pause(self, until: float, now: float) -> None:
        """End the cooldown at `until`, followed by a slow start."""
        self._reopens_at = until
        self._next_start = -math.inf
        self._slow_starts = 0
        self.version += 1

    def answered(self, permit: CallPermit, now: float, usage: Mapping[str, int]) -> None:
        """Reset the number of consecutive cooldowns if the call started after the latest one."""
        self.has_answered = True
        if permit.started >= self._reopens_at:
            self.episodes = 0

    def failed(self, permit: CallPermit, now: float, usage: Mapping[str, int]) -> None:
        """Treat a failed call that was billed as answered, because the provider accepted it; else do nothing."""
        if any(usage.values()):
            self.answered(permit, now, usage)

    def not_sent(self, permit: CallPermit, now: float) -> None:
        """Do nothing: calls are not charged."""

    def connect_timed_out(self, permit: CallPermit, now: float) -> None:
        """Do nothing: calls are not charged, and there is no rate to cut."""

    def too_large(self, size: int) -> str:
        """Return an empty string: there are no token limits."""
        return ""

    def is_hopeless(self, now: float) -> bool:
        """Return False: a run continues as long as its items have attempts left."""
        return False
