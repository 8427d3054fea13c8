"""Base class of the sources that yield rows in Python; see `RowColumns` for the types of the columns."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Set
from pathlib import Path
from typing import Any

from batch_llm.errors import JobError
from batch_llm.jobs.storage.duckdb_session import json_lines
from batch_llm.jobs.storage.json_files import to_json

from .base import BrokenRow, Source
from .columns import RowColumns
from .nested_values import find_path


class RowSource(Source):
    """A source that yields its rows one by one; a subclass only implements `rows`."""

    @abstractmethod
    def rows(self) -> Iterator[Mapping[str, Any] | BrokenRow]:
        """Yield the rows in their order, and a `BrokenRow` for each row that cannot be read."""

    def columns(self, wanted: Set[str]) -> tuple[str, ...]:
        """Return the names of the columns; see `Source.columns`."""
        columns = RowColumns()
        first = None
        for row in self.rows():
            first = row if first is None else first
            before = len(columns.names)
            if not isinstance(row, BrokenRow):
                columns.add_row(row)
            if len(columns.names) > before and all(find_path(name, columns.names) for name in wanted):
                break
        if first is None:
            raise JobError(f"{self.place} is empty: check source")
        if isinstance(first, BrokenRow) and not columns.names:
            raise self._unreadable(first)
        return tuple(columns.names)

    def stage(self, rows: Path, limit: int | None) -> list[BrokenRow]:
        """Write the rows to a numbered Parquet file; see `Source.stage`."""
        broken: list[BrokenRow] = []
        columns = RowColumns()
        good = longest = 0
        lines = rows.with_suffix(".jsonl")
        with lines.open("wb") as file:
            for row in self.rows():
                if isinstance(row, BrokenRow):
                    broken.append(row)
                    continue
                longest = max(longest, file.write(to_json(columns.add_row(row)).encode() + b"\n"))
                good += 1
                if good == limit:
                    break
        if not good:
            raise self._unreadable(broken[0]) if broken else JobError(f"source {self.place!r} has no rows")
        types = columns.types()
        self.write_numbered(
            json_lines(lines, types, longest) if types else f"SELECT NULL AS id FROM range({good})", rows, None
        )
        lines.unlink()
        return broken

    def _unreadable(self, first: BrokenRow) -> JobError:
        return JobError(f"{self.place} has no readable row: {first.error}")
