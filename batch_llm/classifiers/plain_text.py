"""The last resort: an exception of no particular class, of which nothing is known but its message.

A status counts only where the message presents it as one ("429 Too Many Requests", "HTTP 503", "status code: 500"), so
that "Expected 4290 tokens" or "item 429" is nothing.
"""

from __future__ import annotations

import re

from batch_llm.errors import ErrorInfo

from .categories import as_info
from .http_status import category_of

_BARE = (Exception, RuntimeError)
_STATUS = re.compile(
    r"^([45]\d\d) [A-Z]"  # "429 Too Many Requests"
    r"|(?i:\b(?:http|status|error)(?:[ _]code)?[ :=/'\"]{1,3})([45]\d\d)\b"  # "HTTP 503", "status_code=500"
)
_PHRASES = {
    "rate_limit": r"\brate[ _-]?limit(?:s|ed)? ?(?:exceeded|reached|hit|error)|\btoo many requests\b",
    "timeout": r"\btimed[ -]out\b|\btimeout\b",
    "connection": r"\bconnection (?:refused|reset|aborted|closed|error|lost)\b|\bserver disconnected\b",
    "server_error": r"\boverloaded\b|\bservice unavailable\b|\binternal server error\b|\bbad gateway\b",
}


def classify_text(error: BaseException) -> ErrorInfo | None:
    """Return what the message of a bare `Exception` or `RuntimeError` says, None for any other class."""
    if type(error) not in _BARE:
        return None
    message = str(error)
    if (found := _STATUS.search(message)) and (category := category_of(int(found[1] or found[2]))):
        return as_info(category)
    said = (category for category, phrase in _PHRASES.items() if re.search(phrase, message, re.IGNORECASE))
    return next(map(as_info, said), None)
