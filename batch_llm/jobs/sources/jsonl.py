"""JSON lines: an object a line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from .base import BrokenRow
from .places import find_files, open_file
from .rows import RowSource


class JsonLinesSource(RowSource):
    """One or several .jsonl or .ndjson files."""

    def rows(self) -> Iterator[dict[str, Any] | BrokenRow]:
        files = find_files(self.tables, self.place)
        for file in files:
            prefix = f"{Path(file).name} " if len(files) > 1 else ""
            with open_file(file) as lines:
                for number, line in enumerate(lines, start=1):
                    if line.strip():
                        yield _parse(line, f"{prefix}line {number}", first=number == 1)


def _parse(line: bytes, place: str, *, first: bool) -> dict[str, Any] | BrokenRow:
    try:
        value = json.loads(line.decode("utf-8-sig" if first else "utf-8"))
    except UnicodeDecodeError as error:
        return BrokenRow(place, f"{place} is not UTF-8, at byte {error.start + 1}")
    except json.JSONDecodeError as error:
        return BrokenRow(place, f"{place} is not JSON: {error.msg.removesuffix(' at')}, at column {error.colno}")
    except RecursionError:
        return BrokenRow(place, f"{place} is nested too deeply")
    if not isinstance(value, dict):
        return BrokenRow(place, f"{place} is no JSON object: write one as {{...}}")
    return cast("dict[str, Any]", value)
