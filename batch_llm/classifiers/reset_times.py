"""Time until an exhausted limit resets, as the provider reports it."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from .error_bodies import ErrorBody

_IN = re.compile(
    r"\b(?:try again|retry|available again|resets?|wait)\b.{0,20}?\b(?:in|after|for)\b:? "
    r"(?=\d)(?:(?P<d>\d+) ?d(?:ays?)?)?[ ,]*(?:(?P<h>\d+(?:\.\d+)?) ?h(?:ours?|rs?)?)?[ ,]*"
    r"(?:(?P<m>\d+(?:\.\d+)?) ?m(?:in(?:ute)?s?)?(?!s))?[ ,]*(?:(?P<s>\d+(?:\.\d+)?) ?s(?:ec(?:ond)?s?)?)?(?!\w)",
    re.IGNORECASE,
)
_UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}
_YEAR = 366 * 86400.0
_EPOCH = 1e9
"""Smallest number that is a Unix timestamp in seconds; a thousand times as much is one in milliseconds."""


def resets_in(body: ErrorBody, headers: Mapping[str, str], asked: float | None) -> float | None:
    """Return the seconds until a limit resets; None if they are unknown.

    Args:
        body: Body of the error response.
        headers: Headers of the response, with names in lower case.
        asked: Seconds from `Retry-After`.
    """
    if asked is not None:
        return asked
    return _in_words(body.text) or _moment(headers.get("x-ratelimit-reset") or body.resets_at)


def until_midnight_pacific() -> float | None:
    """Return the seconds until Gemini's daily limits reset: https://ai.google.dev/gemini-api/docs/rate-limits."""
    try:
        now = datetime.now(ZoneInfo("America/Los_Angeles"))
    except ZoneInfoNotFoundError:
        return None
    midnight = (now + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight.timestamp() - now.timestamp()


def _in_words(text: str) -> float | None:
    """Return the seconds in a text such as "try again in 7h12m12s" or "retry after 86400 seconds"."""
    found = _IN.search(text)
    parts = {unit: value for unit, value in found.groupdict().items() if value} if found else {}
    return sum(float(value) * _UNITS[unit] for unit, value in parts.items()) or None


def _moment(value: str) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    if number > _EPOCH:
        number = (number / 1000 if number > 1000 * _EPOCH else number) - time.time()
    return number if 0 < number < _YEAR else None
