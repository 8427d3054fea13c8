"""A token bucket that keeps account of what it would have allowed."""

from __future__ import annotations

import math


class Bucket:
    """Fills at `rate` a second up to `burst_seconds` of it, starts full, holds at least one, and may go into debt.

    All times are seconds of one clock that never goes back.

    Attributes:
        level: What may be taken at once; negative in debt.
        allowed: What a caller who was always there could have taken since the first look: the first fill, and all that
            flowed in since, whether it was used or ran over.
        taken: What was taken.
    """

    def __init__(self, rate: float, burst_seconds: float) -> None:
        self.rate = rate
        self.level = self.allowed = self.taken = 0.0
        self._burst_seconds = burst_seconds
        self._seen_at = math.nan

    @property
    def capacity(self) -> float:
        """What it holds when it is full."""
        return max(1.0, self.rate * self._burst_seconds)

    def wait(self, now: float) -> float:
        """Return the seconds until one may be taken again, 0 for now."""
        self.look(now)
        missing = 1.0 - self.level
        return missing / self.rate if missing > 1e-9 else 0.0  # a second's inflow may end a rounding error short

    def take(self, amount: float, now: float) -> None:
        """Take that much, into debt where it is not there."""
        self.look(now)
        self.level -= amount
        self.taken += amount

    def refill_at(self, rate: float, now: float) -> None:
        """Fill at another rate from now on."""
        self.look(now)
        self.rate = rate
        self.level = min(self.level, self.capacity)

    def look(self, now: float) -> None:
        """Let flow in what has become due."""
        inflow = self.capacity if math.isnan(self._seen_at) else (now - self._seen_at) * self.rate
        self._seen_at = now
        self.allowed += inflow
        self.level = min(self.capacity, self.level + inflow)
