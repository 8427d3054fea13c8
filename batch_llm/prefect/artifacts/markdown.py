"""Markdown as Prefect's pages show it: a text of somebody else's must break neither a table nor a line."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

MOST_TEXT = 300
"""Characters of somebody else's text in one place."""


def code(text: str) -> str:
    """Return a text as it is, in one line."""
    line = " ".join(text.split()).replace("`", "'").replace("|", "/")
    return f"`{cut(line)}`" if line else ""


def cut(text: str) -> str:
    """Return the beginning of a text that is too long."""
    return text if len(text) <= MOST_TEXT else f"{text[:MOST_TEXT]}…"


def table(title: str, header: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> str:
    """Return a table under its title."""
    lines = [f"## {title}", "", f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
    return "\n".join([*lines, *(f"| {' | '.join(str(cell) for cell in row)} |" for row in rows)])
