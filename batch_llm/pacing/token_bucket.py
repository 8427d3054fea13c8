"""What may still be used of a rate: a token bucket."""

from __future__ import annotations


class TokenBucket:
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
        burst = rate * self._burst_seconds
        if burst < 1.0:
            burst = 1.0
        if now > self._at:
            if self._level < burst:  # what was given back may be more than a burst, and is not lost
                filled = self._level + (now - self._at) * rate
                self._level = filled if filled < burst else burst
            self._at = now
        missing = (cost if cost < burst else burst) - self._level
        return now if missing <= 1e-6 else now + missing / rate

    def take(self, cost: float) -> None:
        """Use `cost`; a negative one gives back."""
        self._level -= cost

    def empty_until(self, until: float, but: float = 0.0) -> None:
        """Let it be empty, but for so much of a call, and fill from `until` on."""
        self._level, self._at = min(self._level, 0.0) + but, until
