"""Classification of errors by type and status, and by message for bare exceptions only."""

from __future__ import annotations

import asyncio
import errno
import json
import socket
import ssl
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import aiohttp
import httpx
import httpx2
import openai
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_ai import exceptions as pai

from batch_llm.classifiers import DefaultErrorClassifier, GeminiErrorClassifier
from batch_llm.classifiers.http_status import retry_after
from batch_llm.errors import AttemptTimedOut, CallCancelled, CallFailed, ContentFiltered, ErrorInfo
from tests.support.call_outcome import final, retryable


def classify(error: Exception) -> ErrorInfo:
    return DefaultErrorClassifier().classify(error)


def _validation_error() -> Exception:
    try:
        pydantic.TypeAdapter(int).validate_python("x")
    except pydantic.ValidationError as error:
        return error
    raise AssertionError


def _caused(outer: Exception, cause: Exception) -> Exception:
    outer.__cause__ = cause
    return outer


class _StatusError(ValueError):
    """Error of an unknown SDK."""

    def __init__(self, status_code: int) -> None:
        self.status_code = status_code
        self.headers = {"Retry-After": "3"}


@pytest.mark.parametrize(
    "error",
    [
        httpx.PoolTimeout("full"),
        httpx.ConnectTimeout("slow"),
        httpx2.ConnectTimeout("slow"),
        aiohttp.ConnectionTimeoutError(),
        pai.ModelTimeoutError("m", "slow", phase="connect"),
        pai.ModelTimeoutError("m", "slow", phase="pool"),
        _caused(openai.APITimeoutError(httpx2.Request("POST", "http://x")), httpx2.ConnectTimeout("slow")),
    ],
)
def test_timeout_before_the_request_was_sent_is_never_sent(error: Exception) -> None:
    """The call cost nothing; this process is probably overloaded."""
    assert classify(error) == ErrorInfo(True, category="timeout", never_sent=True)


@pytest.mark.parametrize(
    "error",
    [
        _caused(httpx2.ConnectTimeout("broken"), aiohttp.ServerDisconnectedError()),
        _caused(pai.ModelTimeoutError("m", "broken", phase="connect"), aiohttp.ClientOSError()),
    ],
)
def test_broken_connection_is_not_a_timeout(error: Exception) -> None:
    """For example openai over aiohttp: the request may have been sent and billed."""
    assert classify(error) == retryable("connection")


@pytest.mark.parametrize(
    "error", [httpx.ReadTimeout("slow"), pai.ModelTimeoutError("m", "slow", phase="read"), AttemptTimedOut("slow")]
)
def test_timeout_after_the_request_was_sent_is_a_timeout(error: Exception) -> None:
    assert classify(error) == retryable("timeout")


@pytest.mark.parametrize(
    ("error", "info"),
    [
        (TimeoutError(), retryable("timeout")),
        (ConnectionResetError(), retryable("connection")),
        (socket.gaierror(), retryable("connection")),
        (ssl.SSLError(), retryable("connection")),
        (OSError(errno.ENETUNREACH, "Network is unreachable"), retryable("connection")),
        (OSError(errno.EHOSTUNREACH, "No route to host"), retryable("connection")),
        (OSError(errno.ENOSPC, "No space left on device"), retryable("unknown")),
        (asyncio.IncompleteReadError(b"", 1), retryable("connection")),
        (ValueError("bad"), retryable("validation")),
        (_validation_error(), retryable("validation")),
        (json.JSONDecodeError("bad", "", 0), retryable("validation")),
        (TypeError(), final("programming")),
        (AttributeError(), final("programming")),
        (NameError(), final("programming")),
        (KeyError(), final("programming")),
        (ImportError(), final("programming")),
        (NotImplementedError(), final("programming")),
        (AssertionError(), final("programming")),
        (IndexError(), final("programming")),
        (SyntaxError(), final("programming")),
        (httpx.DecodingError("bad gzip"), retryable("connection")),
        (httpx.TooManyRedirects("round and round"), final("invalid_request")),
        (httpx2.UnsupportedProtocol("ftp"), final("invalid_request")),
        (aiohttp.ServerTimeoutError(), retryable("timeout")),
        (aiohttp.InvalidURL("nowhere"), final("invalid_request")),
        (openai.ContentFilterFinishReasonError(), final("content_filter")),
        (FileNotFoundError(), retryable("unknown")),
        (ContentFiltered("no"), final("content_filter")),
        (AttemptTimedOut("no answer"), retryable("timeout")),
        (CallCancelled("from within"), retryable("unknown")),
        (_StatusError(429), retryable("rate_limit", 3.0)),
        (_StatusError(402), final("quota_exhausted")),
        (_StatusError(403), final("auth")),
        (_StatusError(408), retryable("timeout", 3.0)),
        (_StatusError(404), final("not_found")),
        (_StatusError(409), retryable("server_error", 3.0)),
        (_StatusError(529), retryable("server_error", 3.0)),
        (_StatusError(200), retryable("validation")),
    ],
)
def test_type_and_status_decide_the_category(error: Exception, info: ErrorInfo) -> None:
    """The type decides, or the HTTP status of an exception of any library."""
    assert classify(error) == info


@pytest.mark.parametrize(
    ("error", "info"),
    [
        (pai.ContentFilterError("no"), final("content_filter")),
        (pai.UnexpectedModelBehavior("no"), retryable("validation")),
        (pai.OutputTokenLimitExceeded("no"), retryable("validation")),
        (pai.ModelRateLimitError("m", "no", retry_after=2), retryable("rate_limit", 2.0)),
        (pai.ModelQuotaExceededError("m", "no", retry_after=2), final("quota_exhausted")),
        (pai.ModelOverloadedError("m", "no"), retryable("server_error")),
        (pai.ModelTimeoutError("m", "no"), retryable("timeout")),
        (pai.ModelRequestTimeout("m", 1), retryable("timeout")),
        (pai.RunTimedOut("no"), retryable("timeout")),
        (pai.ModelConnectionError("m", "no", phase="connect"), retryable("connection")),
        (pai.ModelContextWindowExceededError("m", "no"), final("invalid_request")),
        (pai.ModelAuthenticationError("m", "no"), final("auth")),
        (pai.ModelHTTPError(409, "m"), retryable("server_error")),
        (pai.ModelHTTPError(500, "m", headers={"Retry-After": "4"}), retryable("server_error", 4.0)),
        (pai.UserError("no"), final("programming")),
        (pai.ModelRetry("no"), retryable("validation")),
        (pai.UsageLimitExceeded("no"), final("invalid_request")),
        (pai.FallbackExceptionGroup("all", [TypeError(), pai.ModelServerError("m", "no")]), retryable("server_error")),
    ],
)
def test_errors_of_pydantic_ai_are_classified_by_type(error: Exception, info: ErrorInfo) -> None:
    """PydanticAI's error types map to categories; the `retry_after` of a used-up quota is ignored."""
    assert classify(error) == info


@pytest.mark.parametrize(
    ("error", "info"),
    [
        (Exception("429 Too Many Requests"), retryable("rate_limit")),
        (RuntimeError("HTTP 503"), retryable("server_error")),
        (Exception("status_code=401"), final("auth")),
        (Exception("Error code: 404 - no such model"), final("model_not_found")),
        (Exception("Rate limit exceeded"), retryable("rate_limit")),
        (RuntimeError("the request timed out"), retryable("timeout")),
        (Exception("Connection reset by peer"), retryable("connection")),
        (Exception("The model is overloaded"), retryable("server_error")),
        (Exception("Expected 4290 tokens"), retryable("unknown")),
        (Exception("Expected 429 tokens"), retryable("unknown")),
        (Exception("500 items are too many"), retryable("unknown")),
        (Exception("item 429 is odd"), retryable("unknown")),
        (ValueError("429 Too Many Requests"), retryable("validation")),
        (KeyError("429 Too Many Requests"), final("programming")),
    ],
)
def test_messages_count_for_bare_exceptions_only(error: Exception, info: ErrorInfo) -> None:
    """A number in an ordinary sentence is not a status, and the type of an exception takes precedence."""
    assert classify(error) == info


@pytest.mark.parametrize(
    ("error", "info"),
    [
        (_caused(Exception("failed"), httpx.ReadTimeout("x")), retryable("timeout")),
        (_caused(RuntimeError("timed out"), _StatusError(401)), final("auth")),
        (_caused(Exception(), _caused(Exception(), ConnectionError())), retryable("connection")),
        (_caused(TypeError(), ConnectionError()), final("programming")),
        (_caused(CallFailed(ConnectionError(), {}), ConnectionError()), retryable("connection")),
    ],
)
def test_causes_of_an_exception_are_classified(error: Exception, info: ErrorInfo) -> None:
    """The exception comes first, then its causes; types take precedence over messages in the whole chain."""
    assert classify(error) == info


def test_cycle_of_causes_is_unknown() -> None:
    """An exception in a cycle of causes is unknown."""
    error = Exception()
    assert classify(_caused(error, _caused(Exception(), error))) == retryable("unknown")


@pytest.mark.parametrize(
    "text",
    [
        "Mon, 01 Jan 99999999999999999999 00:00:00 GMT",
        "Mon, 01 Jan 2030 00:00:00 +99999999999999",
        "Mon, 01 Jan 0001 00:00:00 +2359",
        "Fri, 31 Dec 9999 23:59:59 -2359",
        "Mon, 99 Jan 2030 99:99:99 GMT",
        "9" * 400,
        "1e999",
        "nan",
        ",",
        "\x00",
        "",
    ],
)
def test_retry_after_of_any_text_raises_nothing(text: str) -> None:
    for headers in ({"retry-after": text}, {"retry-after": "Fri, 31 Dec 9999 23:59:59 GMT", "date": text}):
        wait = retry_after(headers)
        assert wait is None or wait >= 0


def test_retry_after_as_a_date_is_relative_to_the_response() -> None:
    """A date is relative to the response's `Date`, not to the local clock; a past one means no wait."""
    sent = datetime(2020, 1, 1, tzinfo=UTC)
    later, earlier = sent + timedelta(seconds=90), sent - timedelta(seconds=90)
    stamps = [format_datetime(moment, usegmt=True) for moment in (sent, later, earlier)]
    assert retry_after({"Retry-After": stamps[1], "Date": stamps[0]}) == 90
    assert retry_after({"retry-after": stamps[2], "date": stamps[0]}) == 0
    assert retry_after({"retry-after": stamps[1]}) == 0


@pytest.mark.parametrize(
    ("raw", "wait"),
    [
        ("120s", 120),
        ("1m30s", 90),
        ("2 h", 7200),
        ("250ms", 0.25),
        ("30, 30", 30),
        ('"30"', 30),
        ("1577836890", 90),
        ("1577836890000", 90),
        ("2020-01-01T00:01:30Z", 90),
        ("2020-01-01 01:01:30+01:00", 90),
        ("2020-01-01T00:01:30", 90),
        ("Wednesday, 01-Jan-20 00:01:30 GMT", 90),
        ("Wed Jan  1 00:01:30 2020", 90),
        ("soon", None),
        ("-5", None),
        ("5;5", None),
    ],
)
def test_retry_after_in_odd_forms(raw: str, wait: float | None) -> None:
    """Durations, timestamps, ISO dates and repeated values are used, relative to the response's `Date`."""
    assert retry_after({"retry-after": raw, "date": "Wed, 01 Jan 2020 00:00:00 GMT"}) == wait


def test_wait_of_an_unavailable_server_is_an_hour_at_most() -> None:
    info = DefaultErrorClassifier().classify(pai.ModelUnavailableError("m", "down", retry_after=999_999))
    assert (info.category, info.suggested_wait) == ("server_error", 3600)


@given(st.text())
def test_retry_after_is_a_finite_wait_or_none(raw: str) -> None:
    """For any header, the wait is None or a finite number of seconds that is not negative."""
    wait = retry_after({"retry-after": raw})
    assert wait is None or 0 <= wait < float("inf")


@pytest.mark.parametrize(
    ("message", "info"),
    [
        ("429 RESOURCE_EXHAUSTED. {'retryDelay': '22s'}", retryable("rate_limit", 22.0)),
        (
            "RESOURCE_EXHAUSTED {'quotaId': 'RequestsPerDay', 'retryDelay': '9s'}",
            final("quota_exhausted"),
        ),
        ("got UNAVAILABLE from upstream", retryable("server_error")),
        ("reason: API_KEY_INVALID, INVALID_ARGUMENT", final("auth")),
        ("nothing of Google's", retryable("unknown")),
    ],
)
def test_gemini_classifier_reads_status_names_in_text(message: str, info: ErrorInfo) -> None:
    """If a wrapper left only text, Google's status names and retry delay are read from it."""
    assert GeminiErrorClassifier().classify(RuntimeError(message)) == info


def test_gemini_classifier_classifies_typed_errors_like_the_default() -> None:
    """Typed errors are classified as by the default classifier."""
    assert GeminiErrorClassifier().classify(ConnectionError("INTERNAL")) == retryable("connection")


def test_classifiers_and_strategies_import_no_sdk() -> None:
    """Classifying and the strategies' modules load no SDK and no HTTP library."""
    code = """
import sys
import batch_llm.strategies
from batch_llm.classifiers import DefaultErrorClassifier
DefaultErrorClassifier().classify(Exception("429 Too Many Requests"))
heavy = {"openai", "anthropic", "google", "pydantic_ai", "pydantic", "httpx", "httpx2", "aiohttp", "prefect"}
print(sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
