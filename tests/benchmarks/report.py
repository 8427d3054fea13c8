"""Output of a benchmark: a table, and each bound with the measured value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

WIDTH = 120
"""Width of the output, also in a log file, which must have complete rows."""


@dataclass(frozen=True, slots=True)
class Bound:
    """A bound, the measured value, and whether it holds."""

    promise: str
    figure: str
    holds: bool


def show(title: str, columns: Sequence[str], sections: Sequence[Sequence[Sequence[str]]], caption: str = "") -> None:
    """Print a table whose sections are divided by lines; the first column is text, the others are numbers."""
    table = Table(title=title, caption=caption, title_justify="left", caption_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", no_wrap=number == 0)
    for rows in sections:
        for row in rows:
            table.add_row(*row)
        table.add_section()
    Console(width=WIDTH, highlight=False).print(table)


def judge(bounds: Sequence[Bound]) -> int:
    """Print each bound with "holds" or "missed"; return the exit code, 1 if one is missed."""
    for bound in bounds:
        print(f"{'holds ' if bound.holds else 'missed'}  {bound.promise}: {bound.figure}")
    return 0 if all(bound.holds for bound in bounds) else 1
