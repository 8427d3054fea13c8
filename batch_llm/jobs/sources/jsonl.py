"""JSON Lines sources: one object per line."""

from __future__ import annotations

import json
from codecs import BOM_UTF8
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from batch_llm.jobs.storage.duckdb_session import MAX_ROW_BYTES

from .base import BrokenRow
from .file_paths import find_files
from .rows import RowSource
from .text_encoding import encoding_of, lines_of, not_in, open_utf8


class JsonLinesSource(RowSource):
    """Rows of one or several .jsonl or .ndjson files."""

    def rows(self) -> Iterator[dict[str, Any] | BrokenRow]:
        """Yield the rows and the broken rows; see `RowSource.rows`."""
        files = find_files(self.tables, self.place)
        for file in files:
            prefix = f"{Path(file).name} " if len(files) > 1 else ""
            encoding = encoding_of(file, self.encoding)
            with open_utf8(file, encoding) as opened:
                for number, line in enumerate(lines_of(opened), start=1):
                    # Concatenated files have a byte order mark at the beginning of each part.
                    if (row := line.removeprefix(BOM_UTF8)).strip():
                        yield _parse(row, f"{prefix}line {number}", encoding)


def _parse(line: bytes, place: str, encoding: str) -> dict[str, Any] | BrokenRow:
    if len(line) > MAX_ROW_BYTES:
        return BrokenRow(place, f"{place} is longer than {MAX_ROW_BYTES // 1024**2} MB")
    try:
        value = json.loads(line.decode())
    except UnicodeDecodeError as error:
        return BrokenRow(place, f"{place}, byte {error.start + 1}, is {not_in(encoding)}")
    except json.JSONDecodeError as error:
        return BrokenRow(place, f"{place} is not JSON: {error.msg.removesuffix(' at')}, at column {error.colno}")
    except ValueError as error:  # Python does not parse numbers of more than 4300 digits
        return BrokenRow(place, f"{place} cannot be read: {error}")
    except RecursionError:
        return BrokenRow(place, f"{place} is nested too deeply")
    if not isinstance(value, dict):
        return BrokenRow(place, f"{place} is not a JSON object: write {{...}}")
    return cast("dict[str, Any]", value)
