"""What a response's headers tell of a provider's limits.

`x-ratelimit-{limit,remaining,reset}-{requests,tokens}` as OpenAI and many others send them, with a reset such as
"6m0s" (https://platform.openai.com/docs/guides/rate-limits), and
`anthropic-ratelimit-{requests,tokens}-{limit,remaining,reset}`, with a date
(https://docs.anthropic.com/en/api/rate-limits).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime

_LONGEST_WAIT_SECONDS = 60.0
_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?")


@dataclass(frozen=True, slots=True)
class Window:
    """One limit of an account.

    Attributes:
        kind: "requests" or "tokens".
        limit: What it is when it is full.
        remaining: What is left of it.
        reset: Seconds until it is full again.
    """

    kind: str
    limit: float
    remaining: float
    reset: float

    @property
    def is_of_a_minute(self) -> bool:
        """Whether it fills evenly within a minute: then the seconds until it is full tell so; a day's limit differs."""
        until_full = 60 * (1 - self.remaining / self.limit)
        return until_full > 0 and abs(self.reset - until_full) <= max(until_full / 2, 0.05)

    @property
    def wait(self) -> float:
        """Seconds for which nothing is left; 0 where something is, or comes back all the time."""
        return 0.0 if self.remaining >= 1 or self.is_of_a_minute else min(self.reset, _LONGEST_WAIT_SECONDS)


def windows(headers: Mapping[str, str]) -> Iterator[Window]:
    """Yield the limits that `headers`, with names in lower case, tell of."""
    for kind in ("requests", "tokens"):
        for pattern in (f"x-ratelimit-%s-{kind}", f"anthropic-ratelimit-{kind}-%s"):
            limit, remaining, reset = (headers.get(pattern % part) for part in ("limit", "remaining", "reset"))
            if limit is None or remaining is None or reset is None:
                continue
            try:
                window = Window(kind, float(limit), float(remaining), _seconds(reset, headers.get("date")))
            except ValueError:
                continue  # some other provider's idea of these headers
            if window.limit > 0 and 0 <= window.remaining <= window.limit and window.reset >= 0:
                yield window


def _seconds(reset: str, sent_at: str | None) -> float:
    """Read "1m30s", "20ms", "0.5", or a moment, measured from the response's own date; raises ValueError."""
    if re.fullmatch(r"\d+(\.\d+)?", reset):
        return float(reset)
    if reset and (found := _DURATION.fullmatch(reset)):
        hours, minutes, seconds, milliseconds = (float(part or 0) for part in found.groups())
        return hours * 3600 + minutes * 60 + seconds + milliseconds / 1000
    if sent_at is None:
        raise ValueError(reset)
    return max(0.0, (datetime.fromisoformat(reset) - parsedate_to_datetime(sent_at)).total_seconds())
