"""The calls that a provider took lately, and what they tell of its limit once it refuses one."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace

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


FIRST = 10.0
LEAST = 1 / 60
MOST = 1e6

_CUT = 0.95
_CUT_OF_FEW = 0.8
_FEW = 8
"""So few calls since the last cut tell little of the limit, except that it is lower."""

_LEAST_DEPTH = 0.25
"""A cut goes down to a quarter at most: where calls were few for want of work, they tell nothing of the limit."""

_WAY_PER_PAUSE = 8.0
_LEAST_WAY = 3.0
_LONGEST_WAY = 300.0
"""Finding that a limit is what it was costs a pause: the longer the pauses, the later it is tried again."""

_STEEPNESS_BEYOND = 0.002
_BEYOND = 1.1
_DOUBLING_SECONDS = 2.0
"""So far beyond the top the limit must have been raised, by whatever much."""

_SECONDS_BEYOND = ((_BEYOND - 1) / _STEEPNESS_BEYOND) ** (1 / 3)
_SECONDS_A_CALL = 0.25
"""Growth takes calls as well as seconds: at three a minute, ten seconds without a refusal mean nothing. A call lets it
grow by so much at most; they are counted by the rate, so that whoever follows a curve knows it as well."""


@dataclass(frozen=True, slots=True)
class RateCurve:
    """How far a rate has grown, for others who share the limit.

    Attributes:
        rate: Calls a second.
        top: Where it is flat; None while it doubles.
        drop: How far below the top it began, as a share of the top.
        way: Seconds of growth from the cut to the top.
        grown: Seconds of growth since the cut.
    """

    rate: float
    plateau: float | None = None
    drop_ratio: float = 0.0
    seconds_to_plateau: float = _LEAST_WAY
    seconds_since_cut: float = 0.0

    def later(self, seconds: float) -> RateCurve:
        """Return it after more growth, `seconds` in which the rate was used."""
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
    """Calls a second that a whole scope may start."""

    def __init__(self, ceiling: float | None = None) -> None:
        self._said, self._told = ceiling or MOST, MOST
        self._curve = RateCurve(FIRST if ceiling is None else ceiling)
        self._accepted = AcceptedCalls()

    @property
    def rate(self) -> float:
        """What may start in a second now."""
        return self._curve.rate

    @property
    def curve(self) -> RateCurve:
        """That, and how far it has grown."""
        return self._curve

    def set_ceiling(self, ceiling: float | None) -> None:
        """Start anew with another ceiling, from what was found where there is none."""
        self._said = ceiling or MOST
        self._curve = RateCurve(self.rate if ceiling is None else ceiling)

    def on_limit_header(self, ceiling: float) -> None:
        """Go no faster than the provider itself says."""
        self._told = ceiling
        self._follow(self._curve)

    def follow(self, curve: RateCurve, seconds: float) -> None:
        """Take over what somebody else has found, `seconds` of growth ago."""
        self._follow(curve.later(seconds))

    def grow(self, seconds: float, latency: float) -> None:
        """Grow after `seconds` of use; calls are answered after some `latency` seconds."""
        curve = self._curve
        if curve.plateau is None:
            self._follow(RateCurve(self.rate * 2 ** (seconds / min(1.0, max(0.1, 2 * latency)))))
        elif self.rate < self._ceiling:
            self._follow(curve.later(seconds))

    @property
    def _ceiling(self) -> float:
        return min(self._said, self._told)

    def _follow(self, curve: RateCurve) -> None:
        self._curve = replace(curve, rate=max(min(curve.rate, self._ceiling), LEAST))

    def accepted(self, calls: int, seconds: float) -> None:
        """Count calls of this process that were not refused, in so many seconds; a negative number takes back."""
        self._accepted.add(calls, seconds)

    def cut(self, share: float, *, bound: bool) -> None:
        """Go down once for an episode.

        Args:
            share: This process's part of the rate.
            bound: Whether calls had to wait for it.
        """
        found = (self._accepted.limit() if bound else self._accepted.mean()) / share
        top = max(min(found, self.rate), _LEAST_DEPTH * self.rate, LEAST)
        drop = 1 - (_CUT if self._accepted.count >= _FEW else _CUT_OF_FEW)
        self._curve = RateCurve(max((1 - drop) * top, LEAST), top, drop)
        self._accepted.clear()

    def paused(self, seconds: float) -> None:
        """Note that no call starts for so long."""
        way = min(max(_WAY_PER_PAUSE * seconds, _LEAST_WAY), _LONGEST_WAY)
        self._curve = replace(self._curve, seconds_to_plateau=way)
        self._accepted.clear()
