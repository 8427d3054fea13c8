"""Rate-limit headers of responses.

`x-ratelimit-{limit,remaining,reset}-{requests,tokens}` as OpenAI and many others send them, with a reset such as
"6m0s" (https://platform.openai.com/docs/guides/rate-limits), and
`anthropic-ratelimit-{requests,tokens}-{limit,remaining,reset}`, with a date
(https://docs.anthropic.com/en/api/rate-limits). Other providers send times in other formats under these names: seconds
or milliseconds since 1970 (https://openrouter.ai/docs/api-reference/limits), HTTP dates, dates without a time zone.

Headers that cannot be parsed are ignored, so that a header never fails an answered call.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

logger = logging.getLogger(__name__)

_LONGEST_WAIT_SECONDS = 60.0
_LONGEST_VALUE = 64
_LEAST_EPOCH_SECONDS = 1e8
_LEAST_EPOCH_MILLISECONDS = 1e11
"""Smallest timestamps, in the year 1973, as seconds and as milliseconds since 1970; smaller numbers are durations."""

_UNITS = {"d": 86_400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ns": 1e-9}
_NUMBER = re.compile(r"\d+(?:\.\d+)?", re.ASCII)
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|us|µs|μs|ns|d|h|m|s)", re.ASCII)
_DURATION = re.compile(rf"(?:{_PART.pattern})+", re.ASCII)


@dataclass(frozen=True, slots=True)
class LimitWindow:
    """One limit of an account, as reported in the headers of a response.

    Attributes:
        kind: "requests" or "tokens".
        limit: The full limit.
        remaining: Unused part of the limit.
        reset: Seconds until the limit is full again.
    """

    kind: str
    limit: float
    remaining: float
    reset: float

    @property
    def is_of_a_minute(self) -> bool:
        """Whether the limit is per minute: it then refills evenly, and `reset` matches the used part of it."""
        until_full = 60 * (1 - self.remaining / self.limit)
        return until_full > 0 and abs(self.reset - until_full) <= max(until_full / 2, 0.05)

    @property
    def wait(self) -> float:
        """Seconds to wait for the reset; 0 if the limit is not used up, or refills continuously."""
        return 0.0 if self.remaining >= 1 or self.is_of_a_minute else min(self.reset, _LONGEST_WAIT_SECONDS)


def windows(headers: Mapping[str, str]) -> Iterator[LimitWindow]:
    """Yield the limits in `headers`, with names in lower case; headers that cannot be parsed are ignored."""
    for kind in ("requests", "tokens"):
        for pattern in (f"x-ratelimit-%s-{kind}", f"anthropic-ratelimit-{kind}-%s"):
            try:
                window = _window(kind, pattern, headers)
            except Exception:  # any value is possible, and must not fail the answer that was paid for
                logger.debug("The rate-limit headers on %s cannot be parsed", kind, exc_info=True)
            else:
                if window is not None:
                    yield window


def _window(kind: str, pattern: str, headers: Mapping[str, str]) -> LimitWindow | None:
    """Return one limit, or None if its headers are missing or implausible; raise ValueError if they are not numbers."""
    limit, remaining, reset = (headers.get(pattern % part) for part in ("limit", "remaining", "reset"))
    if limit is None or remaining is None or reset is None:
        return None
    if max(map(len, (limit, remaining, reset))) > _LONGEST_VALUE:
        raise ValueError(f"a value of more than {_LONGEST_VALUE} characters")
    window = LimitWindow(kind, float(limit), float(remaining), _seconds(reset.strip(), headers.get("date")))
    is_one = 0 < window.limit < math.inf and 0 <= window.remaining <= window.limit and 0 <= window.reset < math.inf
    return window if is_one else None


def _seconds(reset: str, sent_at: str | None) -> float:
    """Return the seconds of "1m30s", "20ms", "0.5" or a time, relative to the response's date; raise ValueError."""
    if _NUMBER.fullmatch(reset):
        number = float(reset)
        if number < _LEAST_EPOCH_SECONDS:
            return number
        moment = number / 1000 if number >= _LEAST_EPOCH_MILLISECONDS else number
        return max(0.0, moment - _moment(sent_at or "").timestamp())
    if _DURATION.fullmatch(reset):
        return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(reset))
    return max(0.0, (_moment(reset) - _moment(sent_at or "")).total_seconds())


def _moment(text: str) -> datetime:
    """Return the time of an ISO 8601 or HTTP date, in UTC if it has no time zone; raise ValueError if it is neither."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = parsedate_to_datetime(text)  # None of a zone also for "-0000" (RFC 5322, section 3.3)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
