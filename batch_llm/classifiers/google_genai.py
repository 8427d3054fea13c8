"""google-genai's errors: one class for all, so the body decides.

Shapes: https://ai.google.dev/gemini-api/docs/troubleshooting and https://google.aip.dev/193 (`ErrorInfo`,
`QuotaFailure`, `RetryInfo`).
"""

from __future__ import annotations

from typing import Any

from batch_llm.errors import ErrorInfo

from .categories import as_info
from .http_status import asked_wait, category_of, seconds


def classify_google(error: BaseException) -> ErrorInfo | None:
    """Return what an API error of google-genai means, None for any other exception."""
    if not any(cls.__module__ == "google.genai.errors" and cls.__name__ == "APIError" for cls in type(error).__mro__):
        return None
    status: object = getattr(error, "code", None)
    category = _category_of_body(error) or (category_of(status) if isinstance(status, int) else None)
    return as_info(category, _retry_delay(error)) if category else None


def _category_of_body(error: BaseException) -> str | None:
    """Return what only the body tells.

    A wrong key is a 400. The quota of a day and that of a minute are the same 429, message included; the day's is told
    by its `quotaId` alone, and the `RetryInfo` that comes with it is of no use.
    """
    status, message = str(getattr(error, "status", None)), str(getattr(error, "message", None))
    details = _details(error)
    if any(str(detail.get("reason", "")).startswith("API_KEY_") for detail in details):
        return "auth"
    if any("PerDay" in str(violation) for detail in details for violation in detail.get("violations", ())):
        return "quota_exhausted"
    return "quota_exhausted" if status == "FAILED_PRECONDITION" and "billing" in message.lower() else None


def _retry_delay(error: BaseException) -> float | None:
    """Return the seconds of `RetryInfo.retryDelay`, a protobuf duration such as "22s" or "0.5s"; else the header's."""
    for detail in _details(error):
        wait = seconds(str(detail.get("retryDelay", "")).removesuffix("s"))
        if wait is not None:
            return wait
    return asked_wait(error)


def _details(error: BaseException) -> list[dict[str, Any]]:
    body: Any = getattr(error, "details", None)
    try:
        return [detail for detail in body["error"]["details"] if hasattr(detail, "get")]
    except (LookupError, TypeError):
        return []
