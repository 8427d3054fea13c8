"""Where the rows of a CSV file begin: the line that names the separator, the header, and lines that are neither."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Set
from dataclasses import dataclass
from pathlib import Path

from batch_llm.errors import JobError

DELIMITERS = ",;\t|"
_LINES_LOOKED_AT = 30
_MOST_SHOWN = 60
_LINE_END = r"(?:\r\n|\r|\n)"
# Excel writes and reads this line: it is no part of the data.
_SEPARATOR = re.compile(rf'"?sep=(?P<delimiter>[^\w"\r\n])"?[ ,;\t|]*{_LINE_END}', re.IGNORECASE)
_BLANK = re.compile(rf"[ \t]*{_LINE_END}")
# A quote opens a field at its beginning alone; a field in quotes may have line breaks, as those of spreadsheets do.
_HEADER = re.compile(r'(?:(?:^|(?<=[,;\t|]))"[^"]*+(?:""[^"]*+)*+"(?=\s*(?:[,;\t|]|[\r\n]|$))|[^\r\n])*+')


@dataclass(frozen=True, slots=True)
class CsvStart:
    """The beginning of a CSV file.

    Attributes:
        lines_before: Lines to skip before the header.
        header: The header, which may have line breaks in quotes.
        delimiter: Between two columns.
    """

    lines_before: int
    header: str
    delimiter: str

    def names(self) -> list[str]:
        """Return the cells of the header."""
        return next(csv.reader([self.header], delimiter=self.delimiter))


def read_start(file: str, text: str) -> CsvStart:
    """Return how a file begins.

    Args:
        file: Its name.
        text: Its first part.

    Raises:
        JobError: It has no header.
    """
    at, lines_before, delimiter = 0, 0, ""
    while found := _BLANK.match(text, at) or (None if delimiter else _SEPARATOR.match(text, at)):
        delimiter = delimiter or found.groupdict().get("delimiter") or ""
        at, lines_before = found.end(), lines_before + 1
    header = _HEADER.match(text[at:])
    if header is None or not header[0].strip():
        raise JobError(f"{file} is empty: check source")
    if Path(file).name.split(".")[1:2] == ["tsv"]:
        delimiter = delimiter or "\t"
    outside_quotes = "".join(header[0].split('"')[::2])
    start = CsvStart(lines_before, header[0], delimiter or max(DELIMITERS, key=outside_quotes.count))
    try:
        next(csv.reader([start.header], delimiter=start.delimiter, strict=True))
    except csv.Error as error:
        raise JobError(f"{file}: a quote in the header, line {lines_before + 1}, is not closed: close it") from error
    return start


def check_first_line_is_header(file: str, text: str, start: CsvStart, wanted: Set[str]) -> None:
    """Say what the first line of a file is, where it is a title or a comment and the header comes later.

    Args:
        file: Its name.
        text: Its first part.
        start: How it begins.
        wanted: Columns that the job names, of which the first line lacks some.

    Raises:
        JobError: The header comes later.
    """
    lines = [line for line in _lines_with_cells(text) if line[0] > start.lines_before]
    if not lines or not wanted:
        return
    first = " ".join(start.header.split())
    shown = f"{file}: line {lines[0][0]} is {first[:_MOST_SHOWN]!r}"
    for number, *readings in lines[1:]:
        if any(wanted <= set(cells) for cells in readings):
            named = ", ".join(map(repr, sorted(wanted)))
            raise JobError(f"{shown}, and line {number} is the header with {named}: delete the lines above the header")
    cells = [max(readings, key=len) for _, *readings in lines[1:] if any(map(len, readings))]
    filled = [cell for cell in start.names() if cell]
    if len(cells) > 1 and len(filled) == 1 and len(cells[0]) == len(cells[1]) > 1:
        raise JobError(
            f"{shown}, which is not a header of {len(cells[0])} columns as the lines below it have: a title or a "
            "comment above the header must be deleted, and a header added if there is none"
        )


def _lines_with_cells(text: str) -> Iterator[tuple[int, *tuple[list[str], ...]]]:
    """Yield the first lines that are not blank: their numbers, and their cells by each delimiter."""
    for number, line in enumerate(re.split(_LINE_END, text)[:_LINES_LOOKED_AT], start=1):
        if line.strip():
            yield number, *([cell.strip() for cell in next(csv.reader([line], delimiter=d))] for d in DELIMITERS)
