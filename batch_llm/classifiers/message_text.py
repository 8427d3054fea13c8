"""Classification of bare exceptions by their message, as a last resort.

A number is used as a status only in a phrase such as "429 Too Many Requests", "HTTP 503" or "status code: 500", so that
"Expected 4290 tokens" or "item 429" does not match.
"""

from __future__ import annotations

import re

from batch_llm.errors import ErrorInfo

from .error_bodies import read_text
from .error_category import category_of_error, is_of_a_long_limit
from .http_status import category_of
from .reset_times import resets_in
from .retryable_categories import as_info

_BARE = (Exception, RuntimeError)
_STATUS = re.compile(
    r"^([45]\d\d) [A-Z]"  # "429 Too Many Requests"
    r"|(?i:\b(?:http|status|error)(?:[ _]code)?[ :=/'\"]{1,3})([45]\d\d)\b"  # "HTTP 503", "status_code=500"
)
_CONNECTION = re.compile(
    r"\bconnection (?:refused|reset|aborted|closed|error|lost)\b|\bserver disconnected\b", re.IGNORECASE
)
_PHRASES = {
    429: r"\brate[ _-]?limit(?:s|ed)? ?(?:exceeded|reached|hit|error)|\btoo many requests\b",
    408: r"\btimed[ -]out\b|\btimeout\b",
    500: r"\boverloaded\b|\bservice unavailable\b|\binternal server error\b|\bbad gateway\b",
}


def classify_text(error: BaseException) -> ErrorInfo | None:
    """Return the classification by the message of a bare `Exception` or `RuntimeError`, None for any other class."""
    if type(error) not in _BARE:
        return None
    message = str(error)
    status = status_in_words(message)
    if status is None:
        return as_info("connection") if _CONNECTION.search(message) else None
    body = read_text(message)
    category = category_of_error(status, body)
    resets = resets_in(body, {}, None) if category == "quota_exhausted" and is_of_a_long_limit(body, None) else None
    return as_info(category, resets_in=resets) if category else None


def status_in_words(message: str) -> int | None:
    """Return the status in a message, or the one that a phrase such as "timed out" corresponds to; else None."""
    if (found := _STATUS.search(message)) and category_of(int(found[1] or found[2])):
        return int(found[1] or found[2])
    matching = (status for status, phrase in _PHRASES.items() if re.search(phrase, message, re.IGNORECASE))
    return next(matching, None)
