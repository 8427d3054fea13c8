"""Escaping of control characters in text from rows, answers and providers before a terminal or a log shows it."""

from __future__ import annotations

import re

_ACTS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 and C1: escape sequences move the cursor, set titles, write the clipboard
    "\u2028\u2029"  # line breaks that only some programs see
    "\u202a-\u202e\u2066-\u2069"  # bidirectional overrides: text looks as if its letters were in another order
    "\ud800-\udfff]"  # half of a pair, which no encoding has
)


def visible(text: str) -> str:
    r"""Return text with control characters escaped as `\x1b` or `\u202e`; line breaks and tabs are kept.

    Example:
        >>> visible("a\x1b[2Jb")
        'a\\x1b[2Jb'
    """
    return _ACTS.sub(_escaped, text)


def visible_json(line: str) -> str:
    """Return equivalent JSON with all control characters escaped."""
    return _ACTS.sub(lambda found: f"\\u{ord(found[0]):04x}", line)


def _escaped(found: re.Match[str]) -> str:
    number = ord(found[0])
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"
