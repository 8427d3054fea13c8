"""The classifier that every run uses unless told otherwise."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

from batch_llm.errors import AnswerTruncated, ErrorClassifier, ErrorInfo

from .categories import as_info
from .error_bodies import read_error
from .error_category import category_of_error, is_of_a_long_limit
from .exception_names import AFTER_STATUS, BEFORE_STATUS, category_of_class, is_never_sent
from .google_genai import is_google, retry_delay, says_wrong_key
from .http_status import asked_wait, headers_of, status_of
from .message_text import classify_text
from .reset_times import resets_in, until_midnight_pacific

_FROM_THE_RESPONSE = frozenset({"auth", "invalid_request", "rate_limit", "server_error", "quota_exhausted"})
"""Categories of classes that stand for a status or a code; what the response says tells more."""

# What the network says without a class of its own: Python has `ConnectionError` only for refused and broken ones.
_CUT_OFF = frozenset({errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTDOWN, errno.EHOSTUNREACH})


class DefaultErrorClassifier(ErrorClassifier):
    """Knows the errors of Python, httpx, httpx2, aiohttp, openai, anthropic, google-genai and pydantic-ai.

    It goes by class, by the provider's error code and by HTTP status, first for the exception itself, then for what it
    was raised from (`__cause__`). The words of a response count where neither code nor status tells what it is about;
    the message of an exception does for a bare `Exception` or `RuntimeError` only. None of these libraries is imported.

    | category | retried | what belongs to it |
    |---|---|---|
    | `rate_limit` | yes, pauses the run | 429 |
    | `quota_exhausted` | no, ends the run | a limit of the day or longer, billing, 402; `resets_in` where it is known |
    | `timeout` | yes; one before the request left uses up no attempt | timeouts of the client, 408 |
    | `connection` | yes | refused, reset or cut connections |
    | `server_error` | yes | 5xx, and 4xx that pass: 409, 423, 424, 425, 498, 499, or with a `Retry-After` |
    | `auth` | no, ends the run unless calls were answered before | 401, 403, a wrong key, an unsupported region |
    | `forbidden` | no, ten in a row end the run | a 403 that is not about the key: a page of a firewall |
    | `model_not_found` | no, ends the run | a model that does not exist or was retired, whatever the status |
    | `not_found` | no, five in a row end the run | another 404 or 410 |
    | `invalid_request` | no | other 4xx: a prompt that is too long, or more than a minute's tokens alone |
    | `validation` | yes, at once | an answer that does not parse or fit: `ValueError` and its kin |
    | `validation` | no | an answer that the token limit cut off: `AnswerTruncated` |
    | `content_filter` | no | a prompt or an answer that the provider blocked |
    | `programming` | no | `TypeError`, `AttributeError`, `LookupError`, ... |
    | `unknown` | yes | everything else: a bare `Exception` or `OSError`, a client's or a strategy's own class |
    """

    def classify(self, exception: Exception) -> ErrorInfo:
        """Return what is known of `exception`, without changing it."""
        chain = list(_chain(exception))
        for read in (_by_type, classify_text):
            for error in chain:
                if info := read(error):
                    return _unless_never_sent(info, chain)
        return as_info("unknown")


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
    if isinstance(error, AnswerTruncated):
        return ErrorInfo(is_retryable=False, category="validation")
    category = category_of_class(error, BEFORE_STATUS)
    is_of_a_response = category is None or category in _FROM_THE_RESPONSE
    if is_of_a_response and (info := _by_response(error, category)):
        return info
    if category:
        return as_info(category, asked_wait(error))
    category = category_of_class(error, AFTER_STATUS) or ("connection" if _is_cut_off(error) else None)
    return as_info(category) if category else None


def _by_response(error: BaseException, of_class: str | None) -> ErrorInfo | None:
    """Return what the response behind an exception says; None where there is none."""
    from_google = is_google(error)
    wait = retry_delay(error) if from_google else asked_wait(error)
    status, body = status_of(error), read_error(error)
    if status is None and of_class == "rate_limit":
        status = 429
    if from_google and says_wrong_key(error):
        return as_info("auth")
    category = of_class if of_class == "quota_exhausted" else category_of_error(status, body, wait) or of_class
    if category != "quota_exhausted" or not is_of_a_long_limit(body, wait):
        return as_info(category, wait) if category else None
    if any("perday" in code for code in body.codes):  # the delay that Google sends with it is of no use
        return as_info(category, resets_in=until_midnight_pacific())
    return as_info(category, resets_in=resets_in(body, headers_of(error), wait))


def _is_cut_off(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in _CUT_OFF
