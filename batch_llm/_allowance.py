"""What may still be used of a rate: a token bucket."""

from __future__ import annotations


class Allowance:
    """Fills at a rate up to a small burst; may go into debt, so that something larger than the burst passes too.

    Args:
        burst_seconds: Of what the rate allows, so much may be used at once after a lull.
    """

    def __init__(self, burst_seconds: float) -> None:
        self._burst_seconds = burst_seconds
        self._level = 1.0
        self._at = 0.0

    def until(self, now: float, rate: float, cost: float) -> float:
        """Return when `cost` may be taken at `rate` a second: `now`, or later."""
        burst = max(1.0, rate * self._burst_seconds)
        if now > self._at:
            # What was given back may be more than a burst, and is not lost.
            self._level = max(self._level, min(burst, self._level + (now - self._at) * rate))
            self._at = now
        missing = min(cost, burst) - self._level
        return now if missing <= 1e-6 else now + missing / rate

    def take(self, cost: float) -> None:
        """Use `cost`; a negative one gives back."""
        self._level -= cost

    def empty_until(self, until: float) -> None:
        """Let it be empty, and fill from `until` on."""
        self._level, self._at = min(self._level, 0.0), until
