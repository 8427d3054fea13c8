"""Handling of unclosed quotes in CSV files: only the row with the quote fails.

DuckDB would read everything after the quote as the text of one field.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import IO

from batch_llm.jobs.storage.duckdb_session import MAX_ROW_BYTES

NOT_CLOSED = "a quote is not closed"
TEXT_AFTER_QUOTE = "text follows a closed quote; a quote within a field must be doubled"
_TEXT_AFTER_QUOTE = -1
"""Number of columns of a row with text after a closed quote."""
_PIECE = 1024 * 1024
_LINE_OVERHEAD = 50
"""Approximate bytes in memory per line, in addition to its content."""

_QUOTES = re.compile(rb'"+')
LINES_TO_JUDGE = 20
"""Lines of a field that are checked: if 9 of 10 are rows themselves, the field has swallowed rows."""

_ROWS_AHEAD = 10_000
"""Rows that are read beyond the limit, because some rows may be broken."""


@dataclass
class SeparatedRows:
    r"""Splitter of a CSV file into rows that end in `\n`; a row with an unclosed quote becomes a row to be rejected.

    A quoted field may contain line breaks (RFC 4180). A row is broken if its quote is never closed, if the closing
    quote is not followed by a delimiter, or if the field swallows lines that are rows themselves (20 lines, or fewer
    if the row then has a wrong number of columns). Only the first line of such a row is broken: reading continues
    with the next line.

    Attributes:
        delimiter: Bytes between two columns.
        columns: Number of columns of the header.
        broken: What is wrong with the quotes of a line, by its number in the output.
    """

    delimiter: bytes
    columns: int
    broken: dict[int, str] = field(default_factory=dict[int, str])
    _ahead: deque[bytes] = field(default_factory=deque[bytes])

    def __post_init__(self) -> None:
        between = re.escape(self.delimiter)
        cell = rb'(?:"[^"]*+(?:""[^"]*+)*+"|[^"' + between + rb"][^" + between + rb"]*+|)"
        more = max(0, self.columns - 1)
        self._is_row = re.compile(cell + rb"(?:" + between + cell + rb"){%d}\r?\n" % more).fullmatch

    def of(self, file: IO[bytes], limit: int | None) -> Iterator[bytes]:
        """Yield the rows of a file.

        Args:
            file: The file, in UTF-8.
            limit: Number of rows that are needed; some more are yielded. None for all.
        """
        source = _lines_of(file)

        def take() -> bytes:
            return self._ahead.popleft() if self._ahead else next(source, b"")

        number = 1
        last = None if limit is None else limit + _ROWS_AHEAD
        while (line := take()) and (last is None or number <= last):
            row = line if b'"' not in line or self._is_row(line) else self._row(line, take)
            if isinstance(row, str):
                self.broken[number] = row
                row = self.delimiter.join([b"x"] * (self.columns + 1))  # DuckDB rejects this row, with its line
            if row.endswith(b"\r\n") or not row.endswith(b"\n"):
                row = row.rstrip(b"\r\n") + b"\n"
            yield row
            number += 1 if row is line else row.count(b"\n")

    def _row(self, first: bytes, take: Callable[[], bytes]) -> bytes | str:
        """Return the row that begins with a line; text if it is broken, which says how."""
        lines = [first]
        size = 0

        def more() -> bytes:
            nonlocal size
            if (
                len(lines) == LINES_TO_JUDGE + 1
                and self.columns > 1
                and self._rows_in(lines[1:]) >= 0.9 * LINES_TO_JUDGE
            ):
                return b""
            line = take() if size <= MAX_ROW_BYTES else b""
            size += len(line) + _LINE_OVERHEAD
            if line:
                lines.append(line)
            return line

        columns, _ = self._columns(first, more)
        if columns == self.columns or (columns > 0 and not self._swallows(lines[1:])):
            return b"".join(lines)
        self._ahead.extendleft(reversed(lines[1:]))
        return TEXT_AFTER_QUOTE if columns == _TEXT_AFTER_QUOTE else NOT_CLOSED

    def _swallows(self, lines: list[bytes]) -> bool:
        """Whether most of the lines within a row are rows themselves."""
        return 2 * self._rows_in(lines) >= len(lines) > 0

    def _rows_in(self, lines: list[bytes]) -> int:
        return sum(self._columns(line, bytes) == (self.columns, True) for line in lines)

    def _columns(self, line: bytes, more: Callable[[], bytes]) -> tuple[int, bool]:
        """Return the number of columns of a row, 0 for an unclosed quote, and whether all quotes enclose fields."""
        at, columns, is_clean, first = 0, 0, True, line
        while True:
            if line.startswith(b'"', at):
                end = _closing(line, at + 1)
                while end is None and (line := more()):
                    end = _closing(line, 0)
                if end is None:
                    return 0, False
                at = end
                while line.startswith(b" ", at) and self.delimiter != b" ":
                    at += 1
            else:
                end = line.find(self.delimiter, at)
                end = len(line.rstrip(b"\r\n")) if end < 0 else end
                is_clean = is_clean and b'"' not in line[at:end]
                at = end
            columns += 1
            if not line.startswith(self.delimiter, at):
                if not line[at:].strip(b"\r\n"):
                    return columns, is_clean
                # A quote that is closed by one in a later line was not meant to be: it is not closed.
                return (_TEXT_AFTER_QUOTE if line is first else 0), is_clean
            at += len(self.delimiter)


def _closing(line: bytes, start: int) -> int | None:
    """Return the end of the quote that closes a field; a doubled quote is part of the field."""
    return next((found.end() for found in _QUOTES.finditer(line, start) if len(found[0]) % 2), None)


def _lines_of(file: IO[bytes]) -> Iterator[bytes]:
    """Yield lines with line endings of any kind.

    A line that is too long for a row is truncated to a beginning that is still too long.
    """
    left = b""
    is_rest = False
    while piece := file.read(_PIECE):
        lines = (left + piece).splitlines(keepends=True)
        # The last line may continue, and a line feed may follow its carriage return.
        left = b"" if lines[-1].endswith(b"\n") else lines.pop()
        for line in lines:
            if not is_rest:
                yield line
            is_rest = False
        if len(left) > MAX_ROW_BYTES and not left.endswith(b"\r"):
            if not is_rest:
                yield left + b"\n"
            left, is_rest = b"", True
    if left and not is_rest:
        yield left
