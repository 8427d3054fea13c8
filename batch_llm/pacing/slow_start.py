"""Pacer of a run without a governor: full speed, a cooldown after a rate limit, then a slow start.

open ──a rate limit──> closed, the length is not known yet ──set_cooldown_end(until)──> closed
 ^                                                                                       │
 └──────── after `slow_start_items` spaced starts ────── slow start <── the clock reaches `until`
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from batch_llm.config import RateLimitConfig

from .pacer import CallOutcome, CallPermit, PacerState


class SlowStart:
    """Pacer with cooldowns and slow starts, but without a rate.

    Attributes:
        state: Current state; its rate is always None.
    """

    def __init__(self, config: RateLimitConfig) -> None:
        self._config = config
        self._reopens_at = -math.inf
        self._next_start = -math.inf
        self._slow_starts = config.slow_start_items  # none remain: a new run starts at full speed
        self.state = PacerState()

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

    def finish(self, permit: CallPermit, now: float, outcome: CallOutcome, usage: Mapping[str, int]) -> bool:
        """Record the outcome of a call; return whether it starts a cooldown.

        A call that started before the end of the latest cooldown belongs to it, and starts no other one. A failed call
        that was billed counts as answered, because the provider accepted it.
        """
        state, is_current = self.state, permit.started >= self._reopens_at
        if outcome == "answered" or (outcome == "failed" and any(usage.values())):
            state.has_answered = True
            if is_current:
                state.episodes = 0
        elif outcome == "rate limited" and is_current:
            state.episodes += 1
            state.version += 1
            self._reopens_at = math.inf
            return True
        return False

    def set_cooldown_end(self, until: float, now: float) -> None:
        """End the cooldown at `until`, followed by a slow start."""
        self._reopens_at = until
        self._next_start = -math.inf
        self._slow_starts = 0
        self.state.version += 1

    def too_large(self, size: int) -> str:
        """Return an empty string: there are no token limits."""
        return ""

    def is_hopeless(self, now: float) -> bool:
        """Return False: a run continues as long as its items have attempts left."""
        return False
