"""Retry behaviour of each error category."""

from __future__ import annotations

from batch_llm.errors import ErrorInfo

RETRYABLE = frozenset({"rate_limit", "timeout", "connection", "server_error", "validation", "unknown"})
"""Categories in which another attempt can succeed. Unknown errors are included: users' strategies raise bare exceptions
for temporary errors, and `max_attempts` limits the cost."""


def as_info(category: str, wait: float | None = None, resets_in: float | None = None) -> ErrorInfo:
    """Return the error information for a category.

    Args:
        category: The category.
        wait: Seconds that the provider asked to wait; ignored if the category is not retryable.
        resets_in: Seconds until an exhausted quota resets.
    """
    retryable = category in RETRYABLE
    return ErrorInfo(
        is_retryable=retryable,
        is_rate_limit=category == "rate_limit",
        category=category,
        suggested_wait=wait if retryable else None,
        resets_in=resets_in if category == "quota_exhausted" else None,
    )
