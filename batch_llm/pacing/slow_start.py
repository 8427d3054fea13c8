"""The pace of a run that has no governor: as fast as it can, a cooldown after a rate limit, then slowly at first.

open ──a rate limit, begin()──> closed, for how long is being asked ──pause(until)──> closed
 ^                                                                                       │
 └──────── after `slow_start_items` spaced starts ────── slow start <── the clock reaches `until`
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from batch_llm.config import RateLimitConfig

from .pacer import CallPermit


class SlowStart:
    """A pacer that knows cooldowns only.

    Attributes:
        episodes: Cooldowns in a row without a success between them.
        version: Changes whenever starts that were promised are void.
        has_answered: Whether a call was ever answered.
    """

    def __init__(self, config: RateLimitConfig) -> None:
        self._config = config
        self._reopens_at = -math.inf
        self._next_start = -math.inf
        self._slow_starts = config.slow_start_items  # none are left: a fresh run starts at full speed
        self.episodes = 0
        self.version = 0
        self.has_answered = False

    @property
    def rate(self) -> None:
        """Nothing bounds it."""
        return None

    def reserve(self, now: float, turn: CallPermit) -> float:
        """Return when `turn` may start: now, and then the turn is taken, or when to ask again."""
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

    def rate_limited(self, turn: CallPermit, now: float) -> bool:
        """Close for a rate limit that a call met; False where it belongs to an episode that is known.

        A call that started before the last reopening tells nothing new. The caller of a new episode finds out how long
        it lasts and says so with `pause`; until then nothing starts.
        """
        if turn.started < self._reopens_at:
            return False
        self.episodes += 1
        self._reopens_at = math.inf
        self.version += 1
        return True

    def pause(self, until: float, now: float) -> None:
        """Reopen at `until`, slowly."""
        self._reopens_at = until
        self._next_start = -math.inf
        self._slow_starts = 0
        self.version += 1

    def answered(self, turn: CallPermit, now: float, usage: Mapping[str, int]) -> None:
        """The next episode is a first one again, if the call began after the last."""
        self.has_answered = True
        if turn.started >= self._reopens_at:
            self.episodes = 0

    def failed(self, turn: CallPermit, now: float, usage: Mapping[str, int]) -> None:
        """A failure that is no rate limit says nothing of the pace; if it was billed, the provider took the call."""
        if any(usage.values()):
            self.answered(turn, now, usage)

    def not_sent(self, turn: CallPermit, now: float) -> None:
        """Nor does a call that was never sent."""

    def connect_timed_out(self, turn: CallPermit, now: float) -> None:
        """Nor one that found no connection."""

    def too_large(self, size: int) -> str:
        """No request is."""
        return ""

    def is_hopeless(self, now: float) -> bool:
        """A run goes on as long as its items have tries."""
        return False
