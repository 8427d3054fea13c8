"""Adaptive rate of calls: grows while calls are accepted, and is cut after a rate limit (like TCP CUBIC)."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace

_TICKS = 50
_SAVED_SECONDS = 0.2
"""Smallest burst that providers allow. If it is larger, the estimate is too high, and a rate limit costs little."""


class AcceptedCalls:
    """Accepted calls since the last cut or cooldown, by tick, for the latest fifty ticks.

    Attributes:
        count: Number of calls.
    """

    def __init__(self) -> None:
        self._ticks = deque[tuple[float, float]](maxlen=_TICKS)
        self.count = 0.0

    def add(self, calls: float, seconds: float) -> None:
        """Add the calls of a tick; a negative number removes calls."""
        self._ticks.append((calls, seconds))
        self.count += calls

    def clear(self) -> None:
        """Remove all calls."""
        self._ticks.clear()
        self.count = 0.0

    def mean(self) -> float:
        """Return the mean number of calls per second."""
        return sum(calls for calls, _ in self._ticks) / max(sum(seconds for _, seconds in self._ticks), 1e-9)

    def limit(self) -> float:
        """Return the estimated limit, in calls per second, of a provider that has just rejected a call.

        In any period, a token bucket accepts at most the inflow of that period plus the saved burst. When it rejects a
        call, it is empty: it has accepted exactly that much since it was last full, whenever that was.
        """
        most = calls = seconds = 0.0
        for tick_calls, tick_seconds in reversed(self._ticks):
            calls, seconds = calls + tick_calls, seconds + tick_seconds
            most = max(most, calls / (seconds + _SAVED_SECONDS))
        return most


FIRST = 10.0
LEAST = 1 / 60
MOST = 1e6

_CUT = 0.95
_CUT_OF_FEW = 0.8
_FEW = 8
"""Number of calls since the last cut below which the estimate is unreliable, except that the limit is lower."""

_LEAST_DEPTH = 0.25
"""Largest cut, to a quarter of the rate: if there was little work, the few calls do not show the limit."""

_RECOVERY_PER_COOLDOWN = 8.0
_LEAST_RECOVERY = 3.0
_LONGEST_RECOVERY = 300.0
"""Longest time to the plateau. Probing an unchanged limit costs a cooldown, so longer cooldowns mean later probes."""

_STEEPNESS_BEYOND = 0.002
_BEYOND = 1.1
_DOUBLING_SECONDS = 2.0
"""Time in which the rate doubles beyond `_BEYOND` times the plateau, where the limit must have been raised."""

_SECONDS_BEYOND = ((_BEYOND - 1) / _STEEPNESS_BEYOND) ** (1 / 3)
_SECONDS_A_CALL = 0.25
"""Most growth per call: at three calls per minute, ten seconds without a rate limit prove nothing. Calls are computed
from the rate, so that processes which follow a curve compute the same growth."""


@dataclass(frozen=True, slots=True)
class RateCurve:
    """State of an adaptive rate, which processes that share the limit can follow.

    Attributes:
        rate: Calls per second.
        plateau: Rate at which the curve is flat; None while the rate doubles.
        drop_ratio: Depth of the last cut below the plateau, as a share of the plateau.
        seconds_to_plateau: Seconds of growth from the cut to the plateau.
        seconds_since_cut: Seconds of growth since the cut.
    """

    rate: float
    plateau: float | None = None
    drop_ratio: float = 0.0
    seconds_to_plateau: float = _LEAST_RECOVERY
    seconds_since_cut: float = 0.0

    def later(self, seconds: float) -> RateCurve:
        """Return the curve after further growth, for `seconds` in which the rate was used."""
        if self.plateau is None:
            return self
        grown = self.seconds_since_cut + seconds * min(1.0, _SECONDS_A_CALL * self.rate)
        beyond = grown - self.seconds_to_plateau
        if beyond < 0:
            times = 1 + self.drop_ratio * (beyond / self.seconds_to_plateau) ** 3
        elif beyond < _SECONDS_BEYOND:
            times = 1 + _STEEPNESS_BEYOND * beyond**3
        else:
            times = _BEYOND * 2 ** min((beyond - _SECONDS_BEYOND) / _DOUBLING_SECONDS, 30)
        return RateCurve(
            max(self.rate, times * self.plateau), self.plateau, self.drop_ratio, self.seconds_to_plateau, grown
        )


class AdaptiveRate:
    """Rate at which a whole scope may start calls, in calls per second."""

    def __init__(self, ceiling: float | None = None) -> None:
        self._configured, self._reported = ceiling or MOST, MOST
        self._curve = RateCurve(FIRST if ceiling is None else ceiling)
        self._accepted = AcceptedCalls()

    @property
    def rate(self) -> float:
        """Current number of calls per second."""
        return self._curve.rate

    @property
    def is_limited(self) -> bool:
        """Whether a limit was met or reported, here or by a process that shares it."""
        return self._curve.plateau is not None or self._reported < MOST

    @property
    def curve(self) -> RateCurve:
        """Current rate and the state of its growth."""
        return self._curve

    def set_ceiling(self, ceiling: float | None) -> None:
        """Restart at another ceiling; without a ceiling, continue from the current rate."""
        self._configured = ceiling or MOST
        self._curve = RateCurve(self.rate if ceiling is None else ceiling)

    def on_limit_header(self, ceiling: float) -> None:
        """Limit the rate to the one in the provider's headers."""
        self._reported = ceiling
        self._follow(self._curve)

    def follow(self, curve: RateCurve, seconds: float) -> None:
        """Adopt the curve of another process, which is `seconds` of growth old."""
        self._follow(curve.later(seconds))

    def grow(self, seconds: float, latency: float) -> None:
        """Grow after `seconds` of use; `latency` is the typical duration of a call in seconds."""
        curve = self._curve
        if curve.plateau is None:
            self._follow(RateCurve(self.rate * 2 ** (seconds / min(1.0, max(0.1, 2 * latency)))))
        elif self.rate < self._ceiling:
            self._follow(curve.later(seconds))

    @property
    def _ceiling(self) -> float:
        return min(self._configured, self._reported)

    def _follow(self, curve: RateCurve) -> None:
        self._curve = replace(curve, rate=max(min(curve.rate, self._ceiling), LEAST))

    def accepted(self, calls: int, seconds: float) -> None:
        """Count accepted calls of this process in `seconds`; a negative number removes calls."""
        self._accepted.add(calls, seconds)

    def cut(self, share: float, *, bound: bool) -> None:
        """Cut the rate, once per cooldown.

        Args:
            share: Share of the rate that this process has.
            bound: Whether calls had to wait for the rate.
        """
        detected = (self._accepted.limit() if bound else self._accepted.mean()) / share
        plateau = max(min(detected, self.rate), _LEAST_DEPTH * self.rate, LEAST)
        drop = 1 - (_CUT if self._accepted.count >= _FEW else _CUT_OF_FEW)
        self._curve = RateCurve(max((1 - drop) * plateau, LEAST), plateau, drop)
        self._accepted.clear()

    def paused(self, seconds: float) -> None:
        """Record a cooldown of `seconds`, which determines the time until the plateau."""
        recovery = min(max(_RECOVERY_PER_COOLDOWN * seconds, _LEAST_RECOVERY), _LONGEST_RECOVERY)
        self._curve = replace(self._curve, seconds_to_plateau=recovery)
        self._accepted.clear()
