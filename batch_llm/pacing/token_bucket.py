"""Token bucket: the unused part of a rate."""

from __future__ import annotations


class TokenBucket:
    """Token bucket that fills up to a small burst; it may go into debt, so costs larger than the burst are possible.

    Args:
        burst_seconds: Size of the burst, as seconds of the rate.
    """

    def __init__(self, burst_seconds: float) -> None:
        self._burst_seconds = burst_seconds
        self._level = 1.0
        self._at = 0.0

    def until(self, now: float, rate: float, cost: float) -> float:
        """Return the time at which `cost` may be taken at a rate of `rate` per second: `now`, or later."""
        burst = rate * self._burst_seconds
        if burst < 1.0:
            burst = 1.0
        if now > self._at:
            if self._level < burst:  # refunds may exceed a burst, and are not lost
                filled = self._level + (now - self._at) * rate
                self._level = filled if filled < burst else burst
            self._at = now
        missing = (cost if cost < burst else burst) - self._level
        return now if missing <= 1e-6 else now + missing / rate

    def take(self, cost: float) -> None:
        """Take `cost` from the bucket; a negative cost is a refund."""
        self._level -= cost

    def empty_until(self, until: float, but: float = 0.0) -> None:
        """Empty the bucket except for `but`, and let it fill from `until` on."""
        self._level, self._at = min(self._level, 0.0) + but, until
