"""How long a run pauses after a provider said "too many requests"."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

from .config import RateLimitConfig
from .errors import ErrorInfo


class RateLimitStrategy(ABC):
    """Decides the length of a cooldown; the engine asks once per episode, however many calls hit the limit together."""

    @abstractmethod
    async def handle_rate_limit(self, error_info: ErrorInfo, attempt: int) -> float:
        """Return the seconds for which no call of the run may start.

        Args:
            error_info: What is known of the error that began the episode.
            attempt: How many episodes there have been without a success between them: 1, 2, 3, ...
        """


class ExponentialBackoffStrategy(RateLimitStrategy):
    """`min(max_cooldown_seconds, base * backoff_multiplier ** (attempt - 1))` seconds.

    The base is the provider's `suggested_wait` where it gave one, else `cooldown_seconds`. Where the provider
    said 0 and refuses again, it is a second, or `cooldown_seconds` if that is shorter. The cap is for the growth: a
    `cooldown_seconds` above it is a pause of that length, each time.

    Args:
        cooldown_seconds: The base where the provider names none.
        backoff_multiplier: Growth for every further episode without a success between.
        max_cooldown_seconds: The longest that a pause grows to, and the longest that a provider can ask for, unless
            `cooldown_seconds` is more.

    Raises:
        ValueError: A value breaks the rule of the field of the same name in `RateLimitConfig`.
    """

    def __init__(
        self, cooldown_seconds: float = 300.0, backoff_multiplier: float = 1.5, max_cooldown_seconds: float = 600.0
    ) -> None:
        self._limits = RateLimitConfig(
            cooldown_seconds=cooldown_seconds,
            backoff_multiplier=backoff_multiplier,
            max_cooldown_seconds=max_cooldown_seconds,
        )

    async def handle_rate_limit(self, error_info: ErrorInfo, attempt: int) -> float:
        base = self._base(error_info.suggested_wait, attempt)
        if base == 0.0:
            return 0.0
        try:
            wait = base * math.pow(self._limits.backoff_multiplier, attempt - 1)
        except OverflowError:
            wait = math.inf
        return min(wait, max(self._limits.max_cooldown_seconds, self._limits.cooldown_seconds))

    def _base(self, suggested: float | None, attempt: int) -> float:
        cooldown = self._limits.cooldown_seconds
        if suggested is None or not math.isfinite(suggested) or suggested < 0:  # classifiers are users' code
            return cooldown
        # "At once", said again and again, would burn an item's tries in no time.
        return suggested if suggested > 0 or attempt == 1 else min(1.0, cooldown)


class FixedDelayStrategy(RateLimitStrategy):
    """The same pause every time, whatever the provider suggests.

    Args:
        cooldown_seconds: Seconds of each pause.

    Raises:
        ValueError: `cooldown_seconds` is not a number of 0 or more.
    """

    def __init__(self, cooldown_seconds: float = 300.0) -> None:
        self._cooldown_seconds = RateLimitConfig(cooldown_seconds=cooldown_seconds).cooldown_seconds

    async def handle_rate_limit(self, error_info: ErrorInfo, attempt: int) -> float:
        return self._cooldown_seconds


_GOVERNED_PAUSE_SECONDS = 0.5
_GOVERNED_MULTIPLIER = 2.0


def built_in(limits: RateLimitConfig, *, is_governed: bool) -> RateLimitStrategy:
    """Return the strategy of a run that was given none; a governor knows where to go on, so its pauses are short."""
    cooldown, multiplier = limits.cooldown_seconds, limits.backoff_multiplier
    if is_governed:
        cooldown, multiplier = min(_GOVERNED_PAUSE_SECONDS, cooldown), max(_GOVERNED_MULTIPLIER, multiplier)
    return ExponentialBackoffStrategy(cooldown, multiplier, limits.max_cooldown_seconds)
