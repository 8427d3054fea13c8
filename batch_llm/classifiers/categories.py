"""What each category means for the next attempt: the one place that says so."""

from __future__ import annotations

from batch_llm.errors import ErrorInfo

RETRYABLE = frozenset({"rate_limit", "timeout", "connection", "server_error", "validation", "unknown"})
"""Categories in which another attempt can succeed. Unknown errors are among them: users' own strategies raise a bare
exception for what passes, and `max_attempts` bounds what that may cost."""


def as_info(category: str, wait: float | None = None, resets_in: float | None = None) -> ErrorInfo:
    """Return the full answer for `category`.

    Args:
        category: The category.
        wait: Seconds that the provider asked to wait; counts only where there is another attempt.
        resets_in: Seconds until a used-up quota is full again.
    """
    retryable = category in RETRYABLE
    return ErrorInfo(
        is_retryable=retryable,
        is_rate_limit=category == "rate_limit",
        category=category,
        suggested_wait=wait if retryable else None,
        resets_in=resets_in if category == "quota_exhausted" else None,
    )
