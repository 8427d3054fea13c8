"""Detection of a CSV file's header, its delimiter, and other lines above the rows."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Set
from dataclasses import dataclass
from pathlib import Path

from batch_llm.errors import JobError

DELIMITERS = ",;\t|"
_LINES_CHECKED = 30
_MAX_SHOWN = 60
_LINE_END = r"(?:\r\n|\r|\n)"
# Excel writes and reads this line, which is not part of the data.
_SEPARATOR = re.compile(rf'"?sep=(?P<delimiter>[^\w"\r\n])"?[ ,;\t|]*{_LINE_END}', re.IGNORECASE)
_BLANK = re.compile(rf"[ \t]*{_LINE_END}")
# A quote opens a field only at the beginning of the field. Spreadsheets write line breaks in quoted fields.
_HEADER = re.compile(r'(?:(?:^|(?<=[,;\t|]))"[^"]*+(?:""[^"]*+)*+"(?=\s*(?:[,;\t|]|[\r\n]|$))|[^\r\n])*+')


@dataclass(frozen=True, slots=True)
class CsvStart:
    """The beginning of a CSV file.

    Attributes:
        lines_before: Lines to skip before the header.
        header: The header, which may contain quoted line breaks.
        delimiter: Character between two columns.
    """

    lines_before: int
    header: str
    delimiter: str

    def names(self) -> list[str]:
        """Return the cells of the header."""
        return next(csv.reader([self.header], delimiter=self.delimiter))


def read_start(file: str, text: str) -> CsvStart:
    """Detect the header and the delimiter of a CSV file.

    Args:
        file: Name of the file.
        text: First part of the file.

    Raises:
        JobError: The file has no header, or a quote in the header is not closed.
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
        raise JobError(f"{file}, line {lines_before + 1}: a quote in the header is not closed: close it") from error
    return start


def check_first_line_is_header(file: str, text: str, start: CsvStart, wanted: Set[str]) -> None:
    """Check that the first line of a file is its header, and not a title or a comment above the header.

    Args:
        file: Name of the file.
        text: First part of the file.
        start: The beginning of the file.
        wanted: Columns that the job uses; the first line lacks some of these columns.

    Raises:
        JobError: The header is on a later line, or there is none.
    """
    lines = [line for line in _lines_with_cells(text) if line[0] > start.lines_before]
    if not lines or not wanted:
        return
    first = " ".join(start.header.split())
    shown = f"{file}: line {lines[0][0]} is {first[:_MAX_SHOWN]!r}"
    for number, *readings in lines[1:]:
        if any(wanted <= set(cells) for cells in readings):
            named = ", ".join(map(repr, sorted(wanted)))
            raise JobError(f"{shown}, and line {number} is the header with {named}: delete the lines above the header")
    cells = [max(readings, key=len) for _, *readings in lines[1:] if any(map(len, readings))]
    filled = [cell for cell in start.names() if cell]
    if len(cells) > 1 and len(filled) == 1 and len(cells[0]) == len(cells[1]) > 1:
        raise JobError(
            f"{shown}, which is not a header for the {len(cells[0])} columns of the lines below: delete a title or a "
            "comment above the header, or add a header if there is none"
        )


def _lines_with_cells(text: str) -> Iterator[tuple[int, *tuple[list[str], ...]]]:
    """Yield the first lines that are not blank: the number of the line, and its cells for each delimiter."""
    for number, line in enumerate(re.split(_LINE_END, text)[:_LINES_CHECKED], start=1):
        if line.strip():
            yield number, *([cell.strip() for cell in next(csv.reader([line], delimiter=d))] for d in DELIMITERS)
