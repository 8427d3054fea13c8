"""The classifier that every run uses unless told otherwise."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

from batch_llm.errors import ErrorClassifier, ErrorInfo

from .categories import as_info
from .classes import AFTER_STATUS, BEFORE_STATUS, category_of_class, is_never_sent
from .google_genai import classify_google
from .http_status import asked_wait, classify_response
from .plain_text import classify_text

# https://platform.openai.com/docs/guides/error-codes, https://docs.anthropic.com/en/api/errors; "content_filter" is
# how Azure refuses a prompt.
_CODES = {
    "insufficient_quota": "quota_exhausted",
    "billing_hard_limit_reached": "quota_exhausted",
    "billing_error": "quota_exhausted",
    "content_filter": "content_filter",
}

# What the network says without a class of its own: Python has `ConnectionError` only for refused and broken ones.
_CUT_OFF = frozenset({errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTDOWN, errno.EHOSTUNREACH})


class DefaultErrorClassifier(ErrorClassifier):
    """Knows the errors of Python, httpx, httpx2, aiohttp, openai, anthropic, google-genai and pydantic-ai.

    It goes by class, by the provider's error code and by HTTP status, first for the exception itself, then for what it
    was raised from (`__cause__`); only a bare `Exception` or `RuntimeError` is judged by its message. None of these
    libraries is imported. What is not known is "unknown" and not retried, for every attempt may cost money.

    | category | retried | what belongs to it |
    |---|---|---|
    | `rate_limit` | yes, pauses the run | 429 |
    | `quota_exhausted` | no, ends the run | a day's quota, billing, 402 |
    | `timeout` | yes; one before the request left uses up no attempt | timeouts of the client, 408 |
    | `connection` | yes | refused, reset or cut connections |
    | `server_error` | yes | 5xx |
    | `auth` | no, ends the run | 401, 403, a wrong key |
    | `invalid_request` | no | other 4xx: no such model, a prompt that is too long |
    | `validation` | yes, at once | an answer that does not parse or fit: `ValueError` and its kin |
    | `content_filter` | no | a prompt or an answer that the provider blocked |
    | `programming` | no | `TypeError`, `AttributeError`, `LookupError`, ... |
    """

    def classify(self, exception: Exception) -> ErrorInfo:
        """Return what is known of `exception`, without changing it."""
        chain = list(_chain(exception))
        for read in (_by_type, classify_text):
            for error in chain:
                if info := read(error):
                    return _unless_never_sent(info, chain)
        return ErrorInfo(is_retryable=False)


def _unless_never_sent(info: ErrorInfo, chain: list[BaseException]) -> ErrorInfo:
    if info.category != "timeout" or not any(map(is_never_sent, chain)):
        return info
    # openai's client over aiohttp says ConnectTimeout of a connection that broke in the middle of a call, too.
    if any(category_of_class(error, BEFORE_STATUS) == "connection" for error in chain):
        return as_info("connection", info.suggested_wait)
    return replace(info, never_sent=True)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception and what it was raised from; a group stands for its members, the hopeful ones first."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, BaseExceptionGroup):
            members = [list(_chain(member)) for member in cast("BaseExceptionGroup[Any]", error).exceptions]
            for member in sorted(members, key=_is_hopeless):
                yield from member
        yield error
        error = error.__cause__


def _is_hopeless(chain: list[BaseException]) -> bool:
    info = next(filter(None, map(_by_type, chain)), None)
    return info is None or not info.is_retryable


def _by_type(error: BaseException) -> ErrorInfo | None:
    if category := category_of_class(error, BEFORE_STATUS) or _category_of_code(error):
        return as_info(category, asked_wait(error))
    if info := classify_google(error) or classify_response(error):
        return info
    category = category_of_class(error, AFTER_STATUS) or ("connection" if _is_cut_off(error) else None)
    return as_info(category) if category else None


def _is_cut_off(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in _CUT_OFF


def _category_of_code(error: BaseException) -> str | None:
    facts: dict[str, object] = vars(error)  # not getattr: some libraries have a deprecated property of that name
    codes = (facts.get("code"), facts.get("type"))
    return next((_CODES[code] for code in codes if isinstance(code, str) and code in _CODES), None)
