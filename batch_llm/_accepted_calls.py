"""The calls that a provider took lately, and what they tell of its limit once it refuses one."""

from __future__ import annotations

from collections import deque

_TICKS = 50
_SAVED_SECONDS = 0.2
"""What providers let be saved up, at least. Where it is more, the estimate is too high, and a refusal costs little."""


class AcceptedCalls:
    """Calls since the last cut or pause, tick by tick, in the latest fifty ticks.

    Attributes:
        count: How many they are.
    """

    def __init__(self) -> None:
        self._ticks = deque[tuple[float, float]](maxlen=_TICKS)
        self.count = 0.0

    def add(self, calls: float, seconds: float) -> None:
        """Count the calls of a tick; a negative number takes back."""
        self._ticks.append((calls, seconds))
        self.count += calls

    def clear(self) -> None:
        """Begin anew."""
        self._ticks.clear()
        self.count = 0.0

    def mean(self) -> float:
        """Return how many there were in a second."""
        return sum(calls for calls, _ in self._ticks) / max(sum(seconds for _, seconds in self._ticks), 1e-9)

    def limit(self) -> float:
        """Return the calls a second that a provider allows which has just refused one.

        A token bucket takes, in whatever time, at most what flows in meanwhile and what was saved up. When it refuses
        it is empty: it has taken just that since it was full, whenever that was.
        """
        most = calls = seconds = 0.0
        for of_tick, in_tick in reversed(self._ticks):
            calls, seconds = calls + of_tick, seconds + in_tick
            most = max(most, calls / (seconds + _SAVED_SECONDS))
        return most
