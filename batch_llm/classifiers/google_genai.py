"""Details of google-genai errors: the library has a single error class, so the response body decides.

Shapes: https://ai.google.dev/gemini-api/docs/troubleshooting and https://google.aip.dev/193 (`ErrorInfo`,
`QuotaFailure`, `RetryInfo`). A daily quota and a limit per minute have the same status 429 and the same message; only
the `quotaId` differs.
"""

from __future__ import annotations

from typing import Any

from .http_status import asked_wait, seconds


def is_google(error: BaseException) -> bool:
    """Return whether `error` is an API error of google-genai."""
    return any(cls.__module__ == "google.genai.errors" and cls.__name__ == "APIError" for cls in type(error).__mro__)


def says_wrong_key(error: BaseException) -> bool:
    """Return whether the response body reports a wrong API key; its status is 400."""
    return any(str(detail.get("reason", "")).startswith("API_KEY_") for detail in _details(error))


def retry_delay(error: BaseException) -> float | None:
    """Return the seconds of `RetryInfo.retryDelay`, a duration such as "22s" or "0.5s", else those of the headers."""
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
