"""What an HTTP status and its headers say, whoever's client met them."""

from __future__ import annotations

import math
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
    424: "server_error",  # of TGI and Bedrock: what generates has failed
    425: "server_error",
    429: "rate_limit",
    440: "server_error",  # from here on, of no RFC: a session that timed out,
    444: "server_error",  # nginx closed without an answer,
    449: "server_error",  # "retry with",
    460: "server_error",  # the client closed, says a load balancer of AWS,
    498: "server_error",  # Groq's flex tier is full,
    499: "server_error",  # the client closed, says nginx
}
_NAMES = ("status_code", "status", "code", "http_status")


def category_of(status: int) -> str | None:
    """Return what a 4xx or 5xx status means (RFC 9110, section 15), None for any other.

    402 is a bill to be paid and 408 the server's own timeout. 409, 423, 424 and 425 say that something else has to be
    over first, and so do some statuses of servers' own. Every other 4xx is a request that would be refused again.
    """
    if 500 <= status < 600:
        return "server_error"
    return _CATEGORIES.get(status, "invalid_request") if 400 <= status < 500 else None


def status_of(error: BaseException) -> int | None:
    """Return the status that an exception, or the response that it carries, holds under one of the usual names."""
    if _is_of_a_parser(error):
        return 502  # what a gateway says of a response that it cannot read
    facts, response = _facts(error)
    statuses = [*(facts.get(name) for name in _NAMES), *(getattr(response, name, None) for name in _NAMES[:2])]
    if isinstance(response, Mapping):  # botocore's
        about: object = cast("Mapping[str, object]", response).get("ResponseMetadata")
        statuses.append(
            cast("Mapping[str, object]", about).get("HTTPStatusCode") if isinstance(about, Mapping) else None
        )
    return next((one for one in statuses if isinstance(one, int) and category_of(one) is not None), None)


def headers_of(error: BaseException) -> dict[str, str]:
    """Return the headers of the response behind an exception, with names in lower case."""
    facts, response = _facts(error)
    headers: Any = facts.get("headers") or getattr(response, "headers", None) or {}
    try:
        return {str(name).lower(): str(value) for name, value in headers.items()}
    except (AttributeError, TypeError, ValueError):
        return {}


def _is_of_a_parser(error: BaseException) -> bool:
    """Whether aiohttp says 400 because it could not read a response, which has no status then."""
    return any(cls.__name__ == "HttpProcessingError" for cls in type(error.__cause__).__mro__)


def asked_wait(error: BaseException) -> float | None:
    """Return the seconds that the provider asked to wait: read by the client already, or from the headers."""
    facts, _ = _facts(error)
    known = seconds(facts.get("retry_after"))
    return known if known is not None else retry_after(headers_of(error))


def _facts(error: BaseException) -> tuple[dict[str, Any], Any]:
    """Return an exception's own attributes and its response; properties are left alone, for some warn or raise."""
    facts = vars(error)
    return facts, facts.get("response")


def retry_after(headers: Mapping[str, str] | None) -> float | None:
    """Return the seconds that `retry-after-ms` (OpenAI, Anthropic) or `Retry-After` (RFC 9110, 10.2.3) ask to wait.

    `Retry-After` holds seconds or a date; a date is measured from the response's own `Date`, so that a wrong clock on
    our side does not matter. What cannot be read says nothing.
    """
    found = {name.lower(): value for name, value in (headers or {}).items()}
    milliseconds = seconds(found.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    raw = found.get("retry-after")
    wait = seconds(raw)
    return wait if wait is not None else _until(raw, found.get("date"))


def seconds(raw: object) -> float | None:
    """Read a number of seconds; None for what is no number, negative or endless."""
    if not isinstance(raw, int | float | str) or isinstance(raw, bool):
        return None
    try:
        value = float(raw)
    except (ValueError, OverflowError):  # the latter for an integer of hundreds of digits
        return None
    return value if math.isfinite(value) and value >= 0 else None


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
        moment = parsedate_to_datetime(raw or "")
    except Exception:  # ValueError as documented, and OverflowError, TypeError or IndexError for some texts
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
