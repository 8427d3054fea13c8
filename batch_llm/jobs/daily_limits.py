"""Daily limits: with `daily_limit="wait"` a run sleeps until the provider resets the limit."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Literal, TypeAlias

from batch_llm.classifiers import DefaultErrorClassifier
from batch_llm.errors import ErrorClassifier, ErrorInfo
from batch_llm.rate_limit import RateLimitStrategy

logger = logging.getLogger(__name__)

DailyLimit: TypeAlias = Literal["stop", "wait"]

_MARGIN_SECONDS = 1.0
"""Added to the reset time that the provider reports, because its clock and ours differ."""


class ResetAwareClassifier(ErrorClassifier):
    """Error classifier that treats an exhausted quota as a rate limit if the provider reports when it resets."""

    def __init__(self) -> None:
        self._default = DefaultErrorClassifier()

    def classify(self, exception: Exception) -> ErrorInfo:
        info = self._default.classify(exception)
        if info.category != "quota_exhausted" or info.resets_in is None:
            return info
        wait = info.resets_in + _MARGIN_SECONDS
        return ErrorInfo(True, True, category="rate_limit", suggested_wait=wait, resets_in=wait)


class ResetAwareCooldown(RateLimitStrategy):
    """Cooldown until a daily limit resets, however long that takes; `other` handles all other rate limits."""

    def __init__(self, other: RateLimitStrategy) -> None:
        self._other = other

    async def handle_rate_limit(self, error_info: ErrorInfo, attempt: int) -> float:
        if error_info.resets_in is None:
            return await self._other.handle_rate_limit(error_info, attempt)
        logger.warning(
            "The provider's daily limit is reached: the run sleeps for %s until the limit resets "
            "(daily_limit is 'wait')",
            timedelta(seconds=round(error_info.resets_in)),
        )
        return error_info.resets_in
