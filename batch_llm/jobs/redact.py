"""Keeps secrets out of texts that are stored or shown."""

from __future__ import annotations

import os
import re

_SECRET_NAMES = ("_API_KEY", "_TOKEN", "_SECRET", "PASSWORD")
_LEAST_LENGTH = 8  # "test" in every text is no secret
_PATTERNS = re.compile(
    r"""(?ix)
    (\bbearer\s+ |
     \b(?:api[_-]?key|key|token|secret|password|authorization)\b["']?\s*[=:]\s*["']?(?:(?:bearer|basic)\s+)?)
    [^\s"'&,;]{8,}
    | (?<=://) [^\s/:@"']* : [^\s/@"']+ (?=@)
    | \b(?:sk|pk)-[A-Za-z0-9_*-]{8,}
    | \bAIza[A-Za-z0-9_-]{20,}
    """
)


def redact(text: str) -> str:
    """Return `text` with keys, tokens and passwords replaced by `***`: those in the environment, and what looks so."""
    for name, value in os.environ.items():
        if name.endswith(_SECRET_NAMES) and len(value) >= _LEAST_LENGTH:
            text = text.replace(value, "***")
    return _PATTERNS.sub(lambda match: f"{match[1] or ''}***", text)
