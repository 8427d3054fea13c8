"""Whether a provider refuses so much, for so long, that a run had better end."""

from __future__ import annotations

_WINDOW_SECONDS = 1800.0
_HOPELESS_SHARE = 0.9
_HOPELESS_REFUSALS = 3


class RefusalMonitor:
    """How many calls were refused, and how many answered, in windows of half an hour."""

    def __init__(self) -> None:
        self._began: float | None = None
        self._answered = self._refused = 0

    def count(self, now: float, *, answered: int = 0, refused: int = 0) -> None:
        """Count calls; the first one begins a window."""
        if self._began is None:
            self._began = now
        self._answered += answered
        self._refused += refused

    def warning(self, now: float) -> str:
        """Return what to say of a window that has passed, and in which nine of ten calls were refused; else nothing."""
        if self._began is None or now - self._began < _WINDOW_SECONDS:
            return ""
        minutes, refused, calls = (now - self._began) / 60, self._refused, self._refused + self._answered
        self._began, self._refused, self._answered = None, 0, 0
        if refused < _HOPELESS_REFUSALS or refused < _HOPELESS_SHARE * calls:
            return ""
        return (
            f"The provider refused {refused} of {calls} calls within {minutes:.0f} minutes, even one at a time: others "
            "use up the limit, or it is lower than a call a minute"
        )
