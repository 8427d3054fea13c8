"""Category of a provider's error response: by its codes, then its status, then its text.

The text is used only for facts that neither codes nor status contain: a request that is too large, a limit per day, an
account without credit, a violated content policy, a model that does not exist.
"""

from __future__ import annotations

import re

from .error_bodies import ErrorBody
from .error_messages import (
    says_access,
    says_content,
    says_day,
    says_model_is_missing,
    says_no_credit,
    says_region,
    says_too_large,
)
from .http_status import category_of
from .provider_codes import category_of_codes

LONGEST_WAIT_SECONDS = 3600.0
"""Longest wait that a provider may ask for; a longer one with a rate limit is that of a limit per day."""

_NO_MORE = re.compile(r"(?:\W|\d|http|status|error|code|forbidden|request failed|access denied)*", re.IGNORECASE)
"""Texts that only repeat the status 403."""

_OF_THE_REQUEST = frozenset({400, 401, 403, 404, 410, 412, 422})
"""Statuses that providers use for a missing model, an account without credit, or a blocked prompt."""


def category_of_error(status: int | None, body: ErrorBody, wait: float | None = None) -> str | None:
    """Return the category of an error response; None if it is unknown.

    Args:
        status: The HTTP status, if it is known.
        body: Content of the response.
        wait: Seconds that the provider asked to wait.
    """
    if status is not None and not 400 <= status < 600:
        return None
    code = category_of_codes(body)
    if status in (413, 429) or code == "rate_limit":
        return _of_a_limit(status, body, code, wait)
    if status is None or status >= 500:
        return code if status is None else _of_a_server(status, code)
    if code is not None and code != "auth":
        return code
    if status in _OF_THE_REQUEST and (category := _of_words(status, body)):
        return category
    return code or _of_status(status, body, wait)


def is_of_a_long_limit(body: ErrorBody, wait: float | None) -> bool:
    """Return whether a limit is per day or longer, and not per minute."""
    return says_day(body) or (wait is not None and wait >= LONGEST_WAIT_SECONDS)


def _of_a_limit(status: int | None, body: ErrorBody, code: str | None, wait: float | None) -> str:
    if code == "quota_exhausted" or (status != 413 and says_no_credit(body)):
        return "quota_exhausted"
    if status == 413 or says_too_large(body):
        return "invalid_request"
    if is_of_a_long_limit(body, wait):
        return "quota_exhausted"
    return "server_error" if code == "server_error" else "rate_limit"


def _of_a_server(status: int, code: str | None) -> str | None:
    """Return the category of a 5xx; a gateway may forward an error of another server."""
    return (
        code if code in ("quota_exhausted", "model_not_found", "content_filter", "rate_limit") else category_of(status)
    )


def _of_words(status: int, body: ErrorBody) -> str | None:
    if says_no_credit(body):
        return "quota_exhausted"
    if says_model_is_missing(body):
        return "model_not_found"
    if says_region(body):
        return "auth"
    return "content_filter" if status in (400, 403, 422) and says_content(body) else None


def _of_status(status: int, body: ErrorBody, wait: float | None) -> str | None:
    if status in (404, 410):
        names_it = any(word in body.text.lower() for word in ("model", "deployment", "endpoints"))
        return "model_not_found" if names_it and not body.is_page else "not_found"
    if status == 403:
        return "forbidden" if _says_more_than_the_status(body) and not says_access(body) else "auth"
    category = category_of(status)
    # A server that suggests a wait expects the request to succeed afterwards.
    return "server_error" if category == "invalid_request" and wait is not None else category


def _says_more_than_the_status(body: ErrorBody) -> bool:
    return _NO_MORE.fullmatch(body.text) is None
