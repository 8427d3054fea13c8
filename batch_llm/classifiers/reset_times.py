"""When a used-up limit is full again, as the provider says it."""

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
"""A number beyond it is a moment since 1970, in seconds or, a thousand times larger, in milliseconds."""


def resets_in(body: ErrorBody, headers: Mapping[str, str], asked: float | None) -> float | None:
    """Return the seconds until a limit is full again; None where nobody says.

    Args:
        body: The error's body.
        headers: The response's headers, with names in lower case.
        asked: What `Retry-After` says.
    """
    if asked is not None:
        return asked
    return _in_words(body.text) or _moment(headers.get("x-ratelimit-reset") or body.resets_at)


def until_midnight_pacific() -> float | None:
    """Return when Gemini's limits of a day are full again: https://ai.google.dev/gemini-api/docs/rate-limits."""
    try:
        now = datetime.now(ZoneInfo("America/Los_Angeles"))
    except ZoneInfoNotFoundError:
        return None
    midnight = (now + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight.timestamp() - now.timestamp()


def _in_words(text: str) -> float | None:
    """Read "try again in 7h12m12s", "9m38.016s", "retry after 86400 seconds"."""
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
