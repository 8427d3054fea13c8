"""Conversion of text files from any encoding to UTF-8."""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Iterator
from typing import IO, Any

from batch_llm.jobs.storage.duckdb_session import MAX_ROW_BYTES

from .file_paths import open_file

UTF_8 = "utf-8"
_MARKS = {codecs.BOM_UTF8: UTF_8, codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
_PIECE = 64 * 1024
_INVALID = "batch-llm-invalid"

# Bytes that are invalid in the encoding become a byte that is invalid in UTF-8: only that row is reported as broken.
codecs.register_error(_INVALID, lambda error: ("\udcff", error.end if isinstance(error, UnicodeDecodeError) else 0))


def encoding_of(file: str, configured: str | None) -> str:
    """Return the encoding of a file.

    Args:
        file: Path or URL of the file.
        configured: The `encoding` setting of the job; None to use the byte order mark, or else UTF-8.
    """
    if configured is not None:
        return UTF_8 if codecs.lookup(configured).name in (UTF_8, "utf-8-sig") else configured
    with open_file(file) as opened:
        start = opened.read(4)
    return next((encoding for mark, encoding in _MARKS.items() if start.startswith(mark)), UTF_8)


def open_utf8(file: str, encoding: str) -> IO[bytes]:
    """Open a file for reading as UTF-8; a byte order mark of UTF-8 is not removed."""
    opened = open_file(file)
    return opened if encoding == UTF_8 else io.BufferedReader(_Recoded(opened, encoding))


def lines_of(file: IO[bytes]) -> Iterator[bytes]:
    """Yield the lines of a file; a line that is too long for a row is truncated, but still too long."""
    while line := file.readline(MAX_ROW_BYTES + 1):
        yield line
        if len(line) > MAX_ROW_BYTES:
            while line and not line.endswith(b"\n"):
                line = file.readline(_PIECE)


def not_in(encoding: str) -> str:
    """Return the end of a message on text that is invalid in its encoding."""
    return f"not {encoding.upper()}: set encoding to the actual one, such as cp1252"


class _Recoded(io.RawIOBase):
    """A binary file that converts another encoding to UTF-8."""

    def __init__(self, file: IO[bytes], encoding: str) -> None:
        self._file = file
        self._decoder = codecs.getincrementaldecoder(encoding)(_INVALID)
        self._left = b""
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # typeshed's buffers have no name in Python 3.11
        while not self._left and not self._ended:
            piece = self._file.read(_PIECE)
            self._ended = not piece
            self._left = self._decoder.decode(piece, self._ended).encode(UTF_8, "surrogateescape")
        room = memoryview(buffer)
        taken = min(len(room), len(self._left))
        room[:taken] = self._left[:taken]
        self._left = self._left[taken:]
        return taken

    def close(self) -> None:
        self._file.close()
        super().close()


_LINE_END_PIECE = 1024 * 1024


def may_be_mixed(file: IO[bytes]) -> bool:
    """Whether a file has line breaks of several kinds, inside or outside of quotes. This check is fast."""
    kinds: set[bytes] = set()
    while piece := file.read(_LINE_END_PIECE):
        if piece.endswith(b"\r"):
            piece += file.read(1)
        both = piece.count(b"\r\n")
        found = {b"\r\n": both, b"\n": piece.count(b"\n") - both, b"\r": piece.count(b"\r") - both}
        kinds |= {kind for kind, count in found.items() if count}
        if len(kinds) > 1:
            return True
    return False


def with_one_line_end(file: IO[bytes], delimiter: str) -> Iterator[bytes]:
    r"""Yield the content of a CSV file with `\n` at the end of each row; quoted line breaks are not changed."""
    # A quote opens a field only at the beginning of the field; an unclosed quote extends to the end of the piece.
    begins = rb"(?:^|(?<=[\r\n" + re.escape(delimiter).encode() + rb"]))"
    parts = re.compile(begins + rb'"[^"]*+(?:""[^"]*+)*+(?P<end>"|\Z)|(?P<row_end>\r\n?)')
    is_open = False

    def even(part: re.Match[bytes]) -> bytes:
        nonlocal is_open
        is_open = part["end"] == b""
        return part[0] if part["row_end"] is None else b"\n"

    while piece := file.readline(MAX_ROW_BYTES + 1):
        continued = b'"' if is_open else b""
        is_open = False
        yield parts.sub(even, continued + piece)[len(continued) :]
