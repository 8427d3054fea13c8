"""HTTP status, headers and suggested wait of an error of any client."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, cast

_CATEGORIES = {
    401: "auth",
    402: "quota_exhausted",
    403: "auth",
    404: "not_found",
    407: "auth",
    408: "timeout",
    409: "server_error",
    410: "not_found",
    423: "server_error",
    424: "server_error",  # TGI and Bedrock: the generation failed
    425: "server_error",
    429: "rate_limit",
    440: "server_error",  # from here on, not in any RFC: session timed out,
    444: "server_error",  # nginx closed without an answer,
    449: "server_error",  # "retry with",
    460: "server_error",  # client closed the connection (AWS load balancer),
    498: "server_error",  # Groq's flex tier is full,
    499: "server_error",  # client closed the connection (nginx)
}
_PART = re.compile(r"(\d+(?:\.\d+)?) ?(ms|s|m|h)", re.ASCII | re.IGNORECASE)
_DURATION = re.compile(rf"(?:{_PART.pattern} ?)+", re.ASCII | re.IGNORECASE)
_UNITS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_ISO_DATE = re.compile(r"\d{4}-\d\d-\d\d[T ]", re.ASCII)
_LEAST_EPOCH = 1e9
"""Smallest number that is a Unix timestamp, of the year 2001, and not a duration."""

_NAMES = ("status_code", "status", "code", "http_status")


def category_of(status: int) -> str | None:
    """Return the category of a 4xx or 5xx status (RFC 9110, section 15), None for any other status.

    402 requires a payment, and 408 is a timeout of the server. 409, 423, 424, 425 and some non-standard statuses are
    temporary. Every other 4xx would fail again.
    """
    if 500 <= status < 600:
        return "server_error"
    return _CATEGORIES.get(status, "invalid_request") if 400 <= status < 500 else None


def status_of(error: BaseException) -> int | None:
    """Return the status of an exception or of its response, found under one of the usual attribute names."""
    if _is_of_a_parser(error):
        return 502  # as a gateway reports a response that it cannot parse
    facts, response = _facts(error)
    statuses = [*(facts.get(name) for name in _NAMES), *(getattr(response, name, None) for name in _NAMES[:2])]
    if isinstance(response, Mapping):  # botocore's
        about: object = cast("Mapping[str, object]", response).get("ResponseMetadata")
        statuses.append(
            cast("Mapping[str, object]", about).get("HTTPStatusCode") if isinstance(about, Mapping) else None
        )
    return next((one for one in statuses if isinstance(one, int) and category_of(one) is not None), None)


def headers_of(error: BaseException) -> dict[str, str]:
    """Return the response headers of an exception, with names in lower case."""
    facts, response = _facts(error)
    headers: Any = facts.get("headers") or getattr(response, "headers", None) or {}
    try:
        return {str(name).lower(): str(value) for name, value in headers.items()}
    except (AttributeError, TypeError, ValueError):
        return {}


def _is_of_a_parser(error: BaseException) -> bool:
    """Return whether aiohttp reports 400 because it could not parse a response, which then has no status."""
    return any(cls.__name__ == "HttpProcessingError" for cls in type(error.__cause__).__mro__)


def asked_wait(error: BaseException) -> float | None:
    """Return the seconds that the provider asked to wait, from an attribute of the exception or the headers."""
    facts, _ = _facts(error)
    headers = headers_of(error)
    known = _from_now(seconds(facts.get("retry_after")), headers.get("date"))
    return known if known is not None else retry_after(headers)


def _facts(error: BaseException) -> tuple[dict[str, Any], Any]:
    """Return the instance attributes and the response of an exception; properties are not read: some warn or raise."""
    facts = vars(error)
    return facts, facts.get("response")


def retry_after(headers: Mapping[str, str] | None) -> float | None:
    """Return the seconds to wait from `retry-after-ms` (OpenAI, Anthropic) or `Retry-After` (RFC 9110, 10.2.3).

    `Retry-After` contains seconds or a date; some servers send "120s", "1m30s", an ISO 8601 date, a Unix timestamp, or
    the value twice. A date is compared with the response's `Date` header, so a wrong local clock does not matter.
    Values that cannot be parsed are ignored.
    """
    found = {name.lower(): value for name, value in (headers or {}).items()}
    milliseconds = seconds(found.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    raw, sent_at = found.get("retry-after", "").strip(" \"'"), found.get("date")
    wait = seconds(raw) if _date(raw) is None else None
    if wait is None and (several := raw.partition(",")[0].strip()) and seconds(several) is not None:
        wait = seconds(several)
    if wait is None and raw and (parts := _DURATION.fullmatch(raw)):
        wait = sum(float(number) * _UNITS[unit.lower()] for number, unit in _PART.findall(parts[0]))
    return _from_now(wait, sent_at) if wait is not None else _until(raw, sent_at)


def seconds(raw: object) -> float | None:
    """Return a number of seconds; None if the value is not a number, negative or not finite."""
    if not isinstance(raw, int | float | str) or isinstance(raw, bool):
        return None
    try:
        value = float(raw)
    except (ValueError, OverflowError):  # the latter for an integer of hundreds of digits
        return None
    return value if math.isfinite(value) and value >= 0 else None


def _from_now(value: float | None, sent_at: str | None) -> float | None:
    """Return a number of seconds; one that can only be a Unix timestamp becomes the time until then."""
    if value is None or value < _LEAST_EPOCH:
        return value
    moment = value / 1000 if value >= 1000 * _LEAST_EPOCH else value
    return max(0.0, moment - (_date(sent_at) or datetime.now(UTC)).timestamp())


def _until(raw: str | None, sent_at: str | None) -> float | None:
    moment = _date(raw)
    if moment is None:
        return None
    try:
        return max(0.0, (moment - (_date(sent_at) or datetime.now(UTC))).total_seconds())
    except OverflowError:  # the first or the last day of the calendar, in a time zone that leads beyond
        return None


def _date(raw: str | None) -> datetime | None:
    try:
        is_iso = raw is not None and _ISO_DATE.match(raw)
        moment = datetime.fromisoformat(raw) if raw and is_iso else parsedate_to_datetime(raw or "")
    except Exception:  # ValueError as documented, and OverflowError, TypeError or IndexError for some texts
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
