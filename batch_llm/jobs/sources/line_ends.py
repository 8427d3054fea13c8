"""Line ends of CSV files: DuckDB takes one kind in a file, and loses rows, or all of them, where there are several."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import IO

from batch_llm.jobs.tables import MAX_ROW_BYTES

_PIECE = 1024 * 1024


def may_be_mixed(file: IO[bytes]) -> bool:
    """Whether a file has line breaks of several kinds, quoted ones included; this is fast."""
    kinds: set[bytes] = set()
    while piece := file.read(_PIECE):
        if piece.endswith(b"\r"):
            piece += file.read(1)
        both = piece.count(b"\r\n")
        found = {b"\r\n": both, b"\n": piece.count(b"\n") - both, b"\r": piece.count(b"\r") - both}
        kinds |= {kind for kind, count in found.items() if count}
        if len(kinds) > 1:
            return True
    return False


def with_one_line_end(file: IO[bytes], delimiter: str) -> Iterator[bytes]:
    r"""Yield a CSV file whose rows all end in `\n`; quoted line breaks stay as they are."""
    # A quote opens a field at its beginning alone; one that is never closed takes the rest of the piece.
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
