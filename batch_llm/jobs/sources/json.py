"""JSON sources: JSON lines, and .json files with an array of objects or with one object each."""

from __future__ import annotations

import io
import json
import re
from codecs import BOM_UTF8
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

from batch_llm.errors import JobError
from batch_llm.jobs.storage.duckdb_session import MAX_ROW_BYTES

from .base import BrokenRow
from .file_selection import FilesSource
from .rows import RowSource
from .text_encoding import encoding_of, lines_of, not_in, open_utf8

_TOO_LONG = f"is longer than {MAX_ROW_BYTES // 1024**2} MB"

_PIECE = 256 * 1024
_LONGEST_TOKEN = 16
"""Characters of the longest token except for texts and numbers: a name such as -Infinity, or an escape."""

_REST_OF_NUMBER = 3
"""Characters after a number that is cut off, which only the following one shows to be part of it, as in 1e+5."""

_SPACE = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder()

Row = dict[str, Any] | BrokenRow


class JsonLinesSource(FilesSource, RowSource):
    """Rows of one or several .jsonl or .ndjson files."""

    endings = frozenset({".jsonl", ".ndjson"})
    kind = "JSON lines files"

    def rows(self) -> Iterator[Row]:
        """Yield the rows and the broken rows; see `RowSource.rows`."""
        files = self.files
        for file in files:
            prefix = f"{Path(file).name} " if len(files) > 1 else ""
            yield from _lines(file, prefix, encoding_of(file, self.encoding))


class JsonSource(FilesSource, RowSource):
    """Rows of one or several .json files: the objects of an array, a single object, or JSON lines."""

    endings = frozenset({".json"})
    kind = "JSON files"

    def rows(self) -> Iterator[Row]:
        """Yield the rows and the broken rows; see `RowSource.rows`."""
        files = self.files
        for file in files:
            prefix = f"{Path(file).name} " if len(files) > 1 else ""
            encoding = encoding_of(file, self.encoding)
            with open_utf8(file, encoding) as opened:
                first = next((line for line in lines_of(opened) if line.removeprefix(BOM_UTF8).strip()), b"")
            start = first.removeprefix(BOM_UTF8).lstrip()
            if start.startswith(b"["):
                yield from _elements(file, prefix, encoding)
            elif isinstance(_parse(start, "", encoding), BrokenRow):
                yield from _whole(file, encoding)
            else:
                yield from _lines(file, prefix, encoding)


def _lines(file: str, prefix: str, encoding: str) -> Iterator[Row]:
    with open_utf8(file, encoding) as opened:
        for number, line in enumerate(lines_of(opened), start=1):
            # Concatenated files have a byte order mark at the beginning of each part.
            if (row := line.removeprefix(BOM_UTF8)).strip():
                yield _parse(row, f"{prefix}line {number}", encoding)


def _whole(file: str, encoding: str) -> Iterator[Row]:
    """Yield the object of a file that has a single one; nothing if the file is empty."""
    with open_utf8(file, encoding) as opened:
        content = opened.read(MAX_ROW_BYTES + 1).removeprefix(BOM_UTF8)
    if content.strip():
        yield _parse(content, Path(file).name, encoding)


def _elements(file: str, prefix: str, encoding: str) -> Iterator[Row]:
    """Yield the objects of an array; bytes that are not in the encoding break only their own element."""
    with open_utf8(file, encoding) as opened:
        text = io.TextIOWrapper(opened, encoding="utf-8-sig", errors="surrogateescape", newline="")
        try:
            for number, (value, source) in enumerate(elements(text, MAX_ROW_BYTES), start=1):
                place = f"{prefix}element {number}"
                try:
                    source.encode()
                except UnicodeEncodeError:
                    yield BrokenRow(place, f"{place} is {not_in(encoding)}")
                else:
                    yield _object(value, place)
        except InvalidArray as error:
            raise JobError(f"{file} cannot be read: {error}") from error


def _parse(text: bytes, place: str, encoding: str) -> Row:
    if len(text) > MAX_ROW_BYTES:
        return BrokenRow(place, f"{place} {_TOO_LONG}")
    try:
        value = json.loads(text.decode())
    except UnicodeDecodeError as error:
        return BrokenRow(place, f"{place}, byte {error.start + 1}, is {not_in(encoding)}")
    except json.JSONDecodeError as error:
        at = f"line {error.lineno}, column {error.colno}" if error.lineno > 1 else f"column {error.colno}"
        return BrokenRow(place, f"{place} is not JSON: {error.msg.removesuffix(' at')}, at {at}")
    except ValueError as error:  # Python does not parse numbers of more than 4300 digits
        return BrokenRow(place, f"{place} cannot be read: {error}")
    except RecursionError:
        return BrokenRow(place, f"{place} is nested too deeply")
    return _object(value, place)


def _object(value: object, place: str) -> Row:
    if not isinstance(value, dict):
        return BrokenRow(place, f"{place} is not a JSON object: write {{...}}")
    return cast("dict[str, Any]", value)


class InvalidArray(Exception):
    """The text is not a valid JSON array; the message says where and why."""


def elements(file: IO[str], longest: int) -> Iterator[tuple[Any, str]]:
    """Yield the elements of a JSON array, each with its source text.

    Args:
        file: The array, opened as text.
        longest: Largest number of characters of an element.

    Raises:
        InvalidArray: The array is truncated or not valid JSON, or an element is too long.

    Example:
        >>> [value for value, _ in elements(io.StringIO('[{"a": 1}, {"a": 2}]'), 1000)]
        [{'a': 1}, {'a': 2}]
    """
    reader = _Reader(file, longest)
    reader.expect("[")
    if reader.next() == "]":
        reader.expect("]")
    else:
        yield from reader.elements()
    if reader.next():
        raise InvalidArray(f"text follows the end of the array: {reader.shown()}")


class _Reader:
    def __init__(self, file: IO[str], longest: int) -> None:
        self._file = file
        self._longest = longest
        self._text, self._at = "", 0
        self._ended = False
        self._number = 1

    def elements(self) -> Iterator[tuple[Any, str]]:
        """Yield the elements after the opening bracket, up to the closing one."""
        while True:
            yield self._element()
            if self.next() == "]":
                self.expect("]")
                return
            self.expect(",")
            self._number += 1

    def next(self) -> str:
        """Return the next character that is not a space; empty at the end of the file."""
        while True:
            space = _SPACE.match(self._text, self._at)
            self._at = space.end() if space else self._at
            if self._at < len(self._text):
                return self._text[self._at]
            if self._ended:
                return ""
            self._read(_PIECE)

    def expect(self, character: str) -> None:
        """Skip a character that must come next."""
        found = self.next()
        if not found:
            raise InvalidArray(f"the array is truncated after element {self._number}")
        if found != character:
            raise InvalidArray(f"{character!r} is expected after element {self._number}, not {self.shown()}")
        self._at += 1

    def shown(self) -> str:
        """Return the text that comes next, for a message."""
        return repr(self._text[self._at : self._at + 20])

    def _element(self) -> tuple[Any, str]:
        self.next()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                if self._ended or self._is_certain(error):
                    raise self._error(error.msg.removesuffix(" at")) from error
            except RecursionError:
                raise self._error("it is nested too deeply") from None
            except ValueError as error:  # Python does not parse numbers of more than 4300 digits
                raise self._error(str(error)) from error
            else:
                if self._ended or len(self._text) - end > _REST_OF_NUMBER:
                    source, self._at = self._text[self._at : end], end
                    return value, source
            if len(self._text) - self._at > self._longest:
                raise self._error(f"it is longer than {self._longest // 1024**2} MB, or not valid JSON")
            self._read(max(_PIECE, len(self._text) - self._at))  # each element is decoded a few times at most

    def _is_certain(self, error: json.JSONDecodeError) -> bool:
        """Whether text is invalid, whatever follows: the decoder stops at the end of an incomplete text."""
        return not error.msg.startswith("Unterminated string") and error.pos < len(self._text) - _LONGEST_TOKEN

    def _read(self, size: int) -> None:
        more = self._file.read(size)
        self._ended = not more
        self._text, self._at = self._text[self._at :] + more, 0

    def _error(self, why: str) -> InvalidArray:
        return InvalidArray(f"element {self._number} of the array: {why}")
