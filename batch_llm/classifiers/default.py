"""Default classifier of every run."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

from batch_llm.errors import AnswerTruncated, ErrorClassifier, ErrorInfo

from .error_bodies import read_error
from .error_category import LONGEST_WAIT_SECONDS, category_of_error, is_of_a_long_limit
from .exception_names import AFTER_STATUS, BEFORE_STATUS, category_of_class, is_never_sent
from .google_genai import is_google, retry_delay, says_wrong_key
from .http_status import asked_wait, headers_of, status_of
from .message_text import classify_text
from .reset_times import resets_in, until_midnight_pacific
from .retryable_categories import as_info

_FROM_THE_RESPONSE = frozenset({"auth", "invalid_request", "rate_limit", "server_error", "quota_exhausted"})
"""Categories of classes that correspond to a status or a code; the response itself is more specific."""

# Network errors without a class of their own: Python has `ConnectionError` only for refused and broken connections.
_CUT_OFF = frozenset({errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTDOWN, errno.EHOSTUNREACH})


class DefaultErrorClassifier(ErrorClassifier):
    """Classifier for errors of Python, httpx, httpx2, aiohttp, openai, anthropic, google-genai and pydantic-ai.

    It uses the class, the provider's error code and the HTTP status, first of the exception itself, then of its cause
    (`__cause__`). The text of a response is used if neither code nor status is specific; the message of an exception is
    used for a bare `Exception` or `RuntimeError` only. None of these libraries is imported.

    A wait that the provider asks for is used up to an hour. With status 429, a longer one is a limit per day; with any
    other status, it counts as an hour.

    | category | retried | errors |
    |---|---|---|
    | `rate_limit` | yes, after a cooldown of the run | 429 |
    | `quota_exhausted` | no, stops the run | a limit per day or longer, billing, 402; `resets_in` if it is known |
    | `timeout` | yes; not counted as an attempt if the request was never sent | timeouts of the client, 408 |
    | `connection` | yes | refused, reset or closed connections |
    | `server_error` | yes | 5xx, and temporary 4xx: 409, 423, 424, 425, 498, 499, or with a `Retry-After` |
    | `auth` | no, stops the run unless calls were answered before | 401, 403, a wrong key, an unsupported region |
    | `forbidden` | no, ten in a row stop the run | a 403 that is not about the key, such as a firewall's page |
    | `model_not_found` | no, stops the run | a model that does not exist or was retired, with any status |
    | `not_found` | no, five in a row stop the run | other 404 or 410 |
    | `invalid_request` | no | other 4xx: a prompt that is too long, or exceeds a token limit per minute |
    | `validation` | yes, immediately | an answer that cannot be parsed or is invalid: `ValueError` and subclasses |
    | `validation` | no | an answer that was cut off at the token limit: `AnswerTruncated` |
    | `content_filter` | no | a prompt or an answer that the provider blocked |
    | `programming` | no | `TypeError`, `AttributeError`, `LookupError`, ... |
    | `unknown` | yes | everything else: a bare `Exception` or `OSError`, a custom class of a client or a strategy |

    Example:
        info = DefaultErrorClassifier().classify(TimeoutError())
        assert info.is_retryable and info.category == "timeout"
    """

    def classify(self, exception: Exception) -> ErrorInfo:
        """Return the classification of `exception`, without modifying it."""
        chain = list(_chain(exception))
        for read in (_by_type, classify_text):
            for error in chain:
                if info := read(error):
                    return _unless_never_sent(info, chain)
        return as_info("unknown")


def _unless_never_sent(info: ErrorInfo, chain: list[BaseException]) -> ErrorInfo:
    if info.category != "timeout" or not any(map(is_never_sent, chain)):
        return info
    # openai's client over aiohttp also raises ConnectTimeout for a connection that broke in the middle of a call.
    if any(category_of_class(error, BEFORE_STATUS) == "connection" for error in chain):
        return as_info("connection", info.suggested_wait)
    return replace(info, never_sent=True)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception and its causes; of a group, yield its exceptions first, retryable ones before others."""
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
        wait = asked_wait(error)
        return as_info(category, None if wait is None else min(wait, LONGEST_WAIT_SECONDS))
    category = category_of_class(error, AFTER_STATUS) or ("connection" if _is_cut_off(error) else None)
    return as_info(category) if category else None


def _by_response(error: BaseException, of_class: str | None) -> ErrorInfo | None:
    """Return the classification by the response of an exception; None if there is no response."""
    from_google = is_google(error)
    wait = retry_delay(error) if from_google else asked_wait(error)
    status, body = status_of(error), read_error(error)
    if status is None and of_class == "rate_limit":
        status = 429
    if from_google and says_wrong_key(error):
        return as_info("auth")
    category = of_class if of_class == "quota_exhausted" else category_of_error(status, body, wait) or of_class
    if category != "quota_exhausted" or not is_of_a_long_limit(body, wait):
        return as_info(category, None if wait is None else min(wait, LONGEST_WAIT_SECONDS)) if category else None
    if any("perday" in code for code in body.codes):  # the retry delay in Google's error is useless here
        return as_info(category, resets_in=until_midnight_pacific())
    return as_info(category, resets_in=resets_in(body, headers_of(error), wait))


def _is_cut_off(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in _CUT_OFF
