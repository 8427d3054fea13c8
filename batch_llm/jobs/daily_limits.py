"""A limit of the day: the run ends, or sleeps until the provider has it full again."""

from __future__ import annotations

import logging
from typing import Literal, TypeAlias

from batch_llm.classifiers import DefaultErrorClassifier
from batch_llm.errors import ErrorClassifier, ErrorInfo
from batch_llm.rate_limit import RateLimitStrategy

logger = logging.getLogger(__name__)

DailyLimit: TypeAlias = Literal["stop", "wait"]

_MARGIN_SECONDS = 1.0
"""After the moment that the provider names: its clock and ours differ."""


class ResetAwareClassifier(ErrorClassifier):
    """Treats a used-up limit as a rate limit where the provider says when it is full again."""

    def __init__(self) -> None:
        self._default = DefaultErrorClassifier()

    def classify(self, exception: Exception) -> ErrorInfo:
        info = self._default.classify(exception)
        if info.category != "quota_exhausted" or info.resets_in is None:
            return info
        wait = info.resets_in + _MARGIN_SECONDS
        return ErrorInfo(True, True, category="rate_limit", suggested_wait=wait, resets_in=wait)


class ResetAwareCooldown(RateLimitStrategy):
    """Pauses until a limit of the day is full again, however long that is; another rate limit as `other` does."""

    def __init__(self, other: RateLimitStrategy) -> None:
        self._other = other

    async def handle_rate_limit(self, error_info: ErrorInfo, attempt: int) -> float:
        if error_info.resets_in is None:
            return await self._other.handle_rate_limit(error_info, attempt)
        logger.warning(
            "The provider's limit of the day is used up: the run sleeps for %.1f h, until it is full again "
            "(daily_limit is 'wait')",
            error_info.resets_in / 3600,
        )
        return error_info.resets_in
