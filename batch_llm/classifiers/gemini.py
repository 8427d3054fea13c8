"""The classifier for runs that talk to Gemini only."""

from __future__ import annotations

import re

from batch_llm.errors import ErrorClassifier, ErrorInfo

from .categories import as_info
from .default import DefaultErrorClassifier
from .http_status import seconds

# Google's status names and what they mean: https://google.aip.dev/193, https://cloud.google.com/apis/design/errors
_STATUSES = {
    "RESOURCE_EXHAUSTED": "rate_limit",
    "UNAVAILABLE": "server_error",
    "INTERNAL": "server_error",
    "DEADLINE_EXCEEDED": "timeout",
    "UNAUTHENTICATED": "auth",
    "PERMISSION_DENIED": "auth",
    "INVALID_ARGUMENT": "invalid_request",
    "NOT_FOUND": "not_found",
    "FAILED_PRECONDITION": "invalid_request",
}
_NAMES = re.compile(rf"\b({'|'.join(_STATUSES)})\b")
_DELAY = re.compile(r"retryDelay\W{1,5}([\d.]+)s")


class GeminiErrorClassifier(ErrorClassifier):
    """Specialised in Gemini: what `DefaultErrorClassifier` knows, and Google's own words where only text is left.

    Gateways and wrappers often pass on an error as a plain exception whose message quotes Google's body; its status
    name, the day's quota, a bad key and the retry delay are read out of that.
    """

    def __init__(self) -> None:
        self._default = DefaultErrorClassifier()

    def classify(self, exception: Exception) -> ErrorInfo:
        """Return what is known of `exception`, without changing it."""
        info = self._default.classify(exception)
        if type(exception) not in (Exception, RuntimeError) or exception.__cause__ is not None:
            return info
        return _quoted(str(exception)) or info


def _quoted(message: str) -> ErrorInfo | None:
    if "API_KEY_INVALID" in message:
        return as_info("auth")
    found = _NAMES.search(message)
    if found is None:
        return None
    if found[1] == "RESOURCE_EXHAUSTED" and re.search(r"quotaId\W.{0,40}PerDay", message):
        return as_info("quota_exhausted")
    delay = _DELAY.search(message)
    return as_info(_STATUSES[found[1]], seconds(delay[1]) if delay else None)
