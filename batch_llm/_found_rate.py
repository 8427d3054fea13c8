"""A provider's limit, found by trying: how many calls a second it takes.

    finding ──refused──> cut ──answered──> growing back ──> at the top, growing slowly, then faster ──refused──> cut
       └ doubles while it is used

Additive increase and multiplicative decrease, with the increase along the cubic of RFC 9438 (section 4.2): steep far
below the rate that was refused last, flat around it, steep again beyond, so that a limit is used almost whole and one
that was raised is found within seconds. Growth needs use: a rate that nobody waited for proves nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

FIRST = 10.0
LEAST = 1 / 60
MOST = 1e6

_FIRST_CUT = 0.45
_FIRST_TOP = 0.6
"""A rate that doubled past the limit is at most twice too high."""

_SOON_SECONDS = 3.0
_SOON_CUT = 0.8
_SOON_TOP = 0.9
"""Refused so soon after a cut, the last cut was not enough."""

_CUT = 0.93
_STEEPNESS = 0.0005
_STEEPNESS_BEYOND = 0.002
_SECONDS_A_CALL = 0.25
"""Growth takes calls as well as seconds: at three calls a minute, ten seconds without a refusal mean nothing."""


@dataclass(frozen=True, slots=True)
class Curve:
    """How far a rate has grown, for others who share the limit.

    Attributes:
        rate: Calls a second.
        top: Where it is flat; None while it doubles.
        way: Seconds of growth from the cut to the top.
        grown: Seconds of growth since the cut.
    """

    rate: float
    top: float | None = None
    way: float = 0.0
    grown: float = 0.0


class FoundRate:
    """Calls a second.

    Attributes:
        rate: What may start in a second now.
    """

    def __init__(self, ceiling: float | None = None) -> None:
        self._said, self._told = ceiling or MOST, MOST
        self.rate = FIRST if ceiling is None else ceiling
        self._top: float | None = None  # where it is flat
        self._way = 0.0  # seconds of growth from the cut to the top
        self._grown = 0.0  # seconds of growth since the cut
        self._cut_at = 0.0
        self._doubled = False
        self._accepted = 0.0

    def say(self, ceiling: float | None) -> None:
        """Start anew with another ceiling, from what was found where there is none."""
        self._said, self._top = ceiling or MOST, None
        self.rate = self.rate if ceiling is None else ceiling

    def tell(self, ceiling: float) -> None:
        """Go no faster than the provider itself says."""
        self._told = ceiling
        self._bound()

    def _bound(self) -> None:
        self.rate = min(self.rate, self._said, self._told)

    def grow(self, seconds: float, calls: int, latency: float) -> None:
        """Grow after `seconds` of use, in which `calls` started, each answered after some `latency` seconds."""
        if self._top is None:
            self._doubled = True
            self.rate *= 2 ** (seconds / min(1.0, max(0.1, 2 * latency)))
        else:
            self._along(min(seconds, _SECONDS_A_CALL * calls))
        self._bound()

    def _along(self, seconds: float) -> None:
        if self._top is not None:
            self._grown += seconds
            beyond = self._grown - self._way
            steepness = _STEEPNESS_BEYOND if beyond > 0 else _STEEPNESS
            self.rate = max(self.rate, self._top * (1 + steepness * beyond**3))

    def accepted(self, calls: float) -> None:
        """Count calls of the whole scope that were not refused."""
        self._accepted += calls

    def cut(self, now: float, used: float | None) -> None:
        """Go down once for an episode: from `used` calls a second, or from the rate where it was used up (None)."""
        bound, used = used is None, max(min(used or self.rate, self.rate), LEAST)
        since = now - self._cut_at
        if self._top is None and not (bound and self._doubled):
            top, rate = used, _CUT * used
        elif self._top is None:
            top, rate = _FIRST_TOP * used, _FIRST_CUT * used
        elif since < _SOON_SECONDS:
            top, rate = _SOON_TOP * used, _SOON_CUT * used
        else:
            # The provider's limit lies between what it took since it last refused, and what it refused now.
            top = max((used + min(used, self._accepted / since)) / 2, _SOON_CUT * used)
            rate = _CUT * top
        self._top, self.rate = max(top, LEAST), max(rate, LEAST)
        self._way = max(0.0, (1 - self.rate / self._top) / _STEEPNESS) ** (1 / 3)
        self._grown = self._accepted = 0.0
        self._cut_at = now

    @property
    def curve(self) -> Curve:
        """How far this is."""
        return Curve(self.rate, self._top, self._way, self._grown)

    def follow(self, curve: Curve, seconds: float) -> None:
        """Take over what somebody else has found, `seconds` of growth ago."""
        self.rate = max(curve.rate, LEAST)
        self._top, self._way, self._grown = curve.top, curve.way, curve.grown
        self._along(seconds)
        self._bound()
