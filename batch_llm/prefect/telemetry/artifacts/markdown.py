"""Markdown for Prefect's pages: untrusted text must break neither a table nor a line."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from batch_llm.jobs.untrusted_text import visible

MOST_TEXT = 300
"""Maximum characters of an untrusted text."""

MOST_PATH = 4096
"""Maximum characters of a path, which is useful only as a whole."""

_MARKUP = re.compile(
    r"""[\\`*~]                                 # code, emphasis
    | \](?=[(\[:])                            # links, pictures, and where their addresses are defined
    | <(?=[a-z/!?]) | &(?=\#?\w+;)            # HTML
    | (?<![^\W_])_ | _(?![^\W_])             # emphasis; not within a word
    | (?<=http):(?=//) | (?<=https):(?=//) | (?<=ftp):(?=//) | (?<=www)\. | (?<=\S)@(?=\S)    # bare addresses
    | ^[#+=-](?!\d) | ^> | ^[|:](?=[\s:|-])    # headings, lists, quotes and tables, at the start of a line""",
    re.IGNORECASE | re.MULTILINE | re.VERBOSE,
)
_NUMBERED = re.compile(r"^(\d{1,9})(?=[.)](?:\s|$))", re.MULTILINE)


def plain(text: str) -> str:
    """Return the beginning of an untrusted text, escaped so that markdown shows it unchanged.

    Links, images and HTML are escaped; the page does not show the backslashes
    (https://spec.commonmark.org/0.31.2/#backslash-escapes).
    """
    lines = (line.strip() for line in visible(cut(text)).split("\n"))
    return _NUMBERED.sub(r"\1\\", _MARKUP.sub(r"\\\g<0>", "\n".join(lines)))


def code(text: str, most: int | None = None) -> str:
    """Return a text as inline code, in one line."""
    line = visible(" ".join(text.split())).replace("`", "'").replace("|", "/")
    return f"`{cut(line, most)}`" if line else ""


def cut(text: str, most: int | None = None) -> str:
    """Return a text, truncated if it is too long."""
    most = MOST_TEXT if most is None else most
    return text if len(text) <= most else f"{text[:most]}…"


def table(title: str, header: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> str:
    """Return a table with a heading."""
    lines = [f"## {title}", "", f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
    return "\n".join([*lines, *(f"| {' | '.join(str(cell) for cell in row)} |" for row in rows)])
