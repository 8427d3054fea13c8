"""Rate limit strategies: the length of the cooldown after a rate limit (HTTP 429)."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

from .config import RateLimitConfig
from .errors import ErrorInfo

_LONGEST_SUGGESTED_SECONDS = 3600.0


class RateLimitStrategy(ABC):
    """Base class of strategies that decide the length of a cooldown.

    The engine calls `handle_rate_limit` once per cooldown, even if many calls hit the rate limit at the same time.

    Example:
        class UntilNextMinute(RateLimitStrategy):
            async def handle_rate_limit(self, error_info: ErrorInfo, attempt: int) -> float:
                return 60.0 - time.time() % 60.0
    """

    @abstractmethod
    async def handle_rate_limit(self, error_info: ErrorInfo, attempt: int) -> float:
        """Return the length of the cooldown in seconds, during which no call of the run starts.

        Args:
            error_info: Classification of the rate limit error that starts the cooldown.
            attempt: Number of consecutive cooldowns without a success between them: 1, 2, 3, ...
        """


class ExponentialBackoffStrategy(RateLimitStrategy):
    """Exponential cooldown: `min(max_cooldown_seconds, base * backoff_multiplier ** (attempt - 1))` seconds.

    The base is the provider's `suggested_wait` if there is one, else `cooldown_seconds`. If the provider suggests 0 and
    limits the calls again, the base is one second, or `cooldown_seconds` if that is shorter. The maximum limits the
    growth only: a longer base is used unchanged for every cooldown. An hour is the longest suggested wait that is used;
    the classifiers of this package treat a longer one as a limit per day, which ends the run.

    Args:
        cooldown_seconds: Base if the provider does not suggest a wait.
        backoff_multiplier: Growth factor for each further cooldown without a success in between.
        max_cooldown_seconds: Longest cooldown after growth.

    Raises:
        ValueError: A value violates the rule of the field of the same name in `RateLimitConfig`.

    Example:
        strategy = ExponentialBackoffStrategy(cooldown_seconds=30, backoff_multiplier=2)
        processor = ParallelBatchProcessor(config, rate_limit_strategy=strategy)
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
        """Return the length of the cooldown in seconds, by the formula of the class."""
        base = self._base(error_info.suggested_wait, attempt)
        if base == 0.0:
            return 0.0
        try:
            wait = base * math.pow(self._limits.backoff_multiplier, attempt - 1)
        except OverflowError:
            wait = math.inf
        return max(base, min(wait, max(self._limits.max_cooldown_seconds, self._limits.cooldown_seconds)))

    def _base(self, suggested: float | None, attempt: int) -> float:
        cooldown = self._limits.cooldown_seconds
        if suggested is None or not math.isfinite(suggested) or suggested < 0:  # classifiers are users' code
            return cooldown
        # A provider that repeatedly suggests 0 would use up an item's rate limit retries within moments.
        return min(suggested, _LONGEST_SUGGESTED_SECONDS) if suggested > 0 or attempt == 1 else min(1.0, cooldown)


class FixedDelayStrategy(RateLimitStrategy):
    """Cooldown of fixed length, which ignores the provider's suggestion.

    Args:
        cooldown_seconds: Length of each cooldown in seconds.

    Raises:
        ValueError: `cooldown_seconds` is not a number of 0 or more.

    Example:
        processor = ParallelBatchProcessor(config, rate_limit_strategy=FixedDelayStrategy(cooldown_seconds=60))
    """

    def __init__(self, cooldown_seconds: float = 300.0) -> None:
        self._cooldown_seconds = RateLimitConfig(cooldown_seconds=cooldown_seconds).cooldown_seconds

    async def handle_rate_limit(self, error_info: ErrorInfo, attempt: int) -> float:
        """Return the fixed length of the cooldown in seconds."""
        return self._cooldown_seconds


_GOVERNED_COOLDOWN_SECONDS = 0.5
_GOVERNED_MULTIPLIER = 2.0


def built_in(limits: RateLimitConfig, *, is_governed: bool) -> RateLimitStrategy:
    """Return the default strategy; with a governor, which knows the rate to resume at, cooldowns are short."""
    cooldown, multiplier = limits.cooldown_seconds, limits.backoff_multiplier
    if is_governed:
        cooldown, multiplier = min(_GOVERNED_COOLDOWN_SECONDS, cooldown), max(_GOVERNED_MULTIPLIER, multiplier)
    return ExponentialBackoffStrategy(cooldown, multiplier, limits.max_cooldown_seconds)
