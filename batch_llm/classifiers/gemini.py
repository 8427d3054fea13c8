"""Classifier for runs that call Gemini only."""

from __future__ import annotations

import re

from batch_llm.errors import ErrorClassifier, ErrorInfo

from .default import DefaultErrorClassifier
from .http_status import seconds
from .retryable_categories import as_info

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
    """Classifier for Gemini: `DefaultErrorClassifier`, plus errors that are available as text only.

    Gateways and wrappers often forward an error as a plain exception whose message quotes Google's response body. The
    status name, an exhausted daily quota, a wrong key and the retry delay are extracted from that message.

    Example:
        processor = ParallelBatchProcessor(config, error_classifier=GeminiErrorClassifier())
    """

    def __init__(self) -> None:
        self._default = DefaultErrorClassifier()

    def classify(self, exception: Exception) -> ErrorInfo:
        """Return the classification of `exception`, without modifying it."""
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
