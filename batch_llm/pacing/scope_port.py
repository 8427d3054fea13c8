"""Interface of a governor for the sharing protocol, by which several processes use one limit."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock

from .adaptive_rate import RateCurve
from .call_rate import CallRate, UsageSample

PROBED_SECONDS = 2.0
"""Time for the first call after a cooldown to meet a rate limit, and for other processes to receive the news."""


class ScopePort:
    """Interface of a governor for other processes in its scope; methods may be called from any thread.

    Args:
        lock: Lock of the governor.
        rate: Rate of the governor, used with the lock only.
    """

    def __init__(self, lock: Lock, rate: CallRate) -> None:
        self._lock = lock
        self._rate = rate
        self._listeners: list[Callable[[float], None]] = []

    @property
    def curve(self) -> RateCurve:
        """Rate of the whole scope and the state of its growth."""
        return self._rate.adaptive.curve

    @property
    def episodes(self) -> int:
        """Number of consecutive cooldowns without a success between them."""
        return self._rate.state.episodes

    def sample_usage(self, now: float) -> UsageSample:
        """Return the usage since the last sample, from which the shares of the limit are computed."""
        with self._lock:
            return self._rate.sample(now)

    def set_share(self, share: float, *, place: float = 0.0, is_waiting: bool = False) -> None:
        """Set the share of the limit that this process uses; the rest is for other processes.

        Args:
            share: Share of the limit, 0 to 1.
            place: Position of this process among all, 0 to 1: after a cooldown, they resume one after another.
            is_waiting: Whether the share will grow after others have reduced theirs. Until then the rate does not grow:
                a part of it is unused, so a rate that is too high would not be detected.
        """
        with self._lock:
            self._rate.share, self._rate.position, self._rate.is_waiting = max(share, 1e-6), place, is_waiting

    def follow(self, curve: RateCurve, seconds: float) -> None:
        """Adopt the rate that another process has detected for the whole scope, `seconds` of growth ago.

        The rate continues to grow here as it does there. If it followed each step only after a report, this process
        would lag behind, and the other one would exceed the limit without a rate limit.
        """
        with self._lock:
            self._rate.adaptive.follow(curve, seconds)

    def require_share(self, until: float) -> None:
        """Assume that other processes of the scope use the whole rate until the given time."""
        with self._lock:
            self._rate.required_until = until

    def pause_for_others(self, until: float, now: float, curve: RateCurve, episodes: int | None = None) -> None:
        """Start a cooldown because another process met a rate limit, and resume at the rate that it detected.

        During a cooldown of this process, the higher of both rates is used: a rate that is too high meets another rate
        limit and is corrected, but a rate that is too low is detected much later.

        Args:
            until: End of the cooldown.
            now: Current time.
            curve: Rate of the whole scope that the other process detected.
            episodes: Number of consecutive cooldowns of the other process; None if unknown. After more than one, the
                other process resumes first, alone, and reports another rate limit.
        """
        rate = self._rate
        with self._lock:
            if now >= rate.reopens_at or curve.rate > rate.adaptive.rate:
                rate.adaptive.follow(curve, 0.0)
            if episodes and episodes > 1:
                rate.state.episodes, until = 0, until + PROBED_SECONDS
            if until > rate.reopens_at:
                rate.close(until, now)

    def listen(self, listener: Callable[[float], None]) -> None:
        """Register a function to call with the end of every cooldown that starts here; it must return immediately."""
        with self._lock:
            self._listeners.append(listener)

    def ignore(self, listener: Callable[[float], None]) -> None:
        """Remove a function that was registered with `listen`."""
        with self._lock:
            self._listeners.remove(listener)

    def notify(self, until: float) -> None:
        """Call the listeners: a cooldown until the given time started here."""
        with self._lock:
            listeners = list(self._listeners)
        for listener in listeners:
            listener(until)
