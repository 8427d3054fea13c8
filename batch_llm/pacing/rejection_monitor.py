"""Detection of a provider that rejects nearly all calls for so long that the run should stop."""

from __future__ import annotations

_WINDOW_SECONDS = 1800.0
_HOPELESS_SHARE = 0.9
_LEAST_REJECTIONS = 3


class RejectionMonitor:
    """Counts of rejected and answered calls in windows of half an hour."""

    def __init__(self) -> None:
        self._began: float | None = None
        self._answered = self._refused = 0

    def count(self, now: float, *, answered: int = 0, refused: int = 0) -> None:
        """Count calls; the first one starts a window."""
        if self._began is None:
            self._began = now
        self._answered += answered
        self._refused += refused

    def warning(self, now: float) -> str:
        """Return a warning if the current window is complete and nine of ten of its calls were rejected; else empty."""
        if self._began is None or now - self._began < _WINDOW_SECONDS:
            return ""
        minutes, refused, calls = (now - self._began) / 60, self._refused, self._refused + self._answered
        self._began, self._refused, self._answered = None, 0, 0
        if refused < _LEAST_REJECTIONS or refused < _HOPELESS_SHARE * calls:
            return ""
        return (
            f"The provider rejected {refused} of {calls} calls within {minutes:.0f} minutes, even one at a time: other "
            "clients use up the limit, or it is below one call per minute"
        )
