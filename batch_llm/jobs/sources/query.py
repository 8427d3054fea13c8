"""A DuckDB query: joins, filters, files of any kind that DuckDB reads."""

from __future__ import annotations

from collections.abc import Set
from pathlib import Path

import duckdb

from batch_llm.jobs.tables import column_types, job_error

from .base import BrokenRow, Source


class QuerySource(Source):
    """The rows of a query, in its order; file names in it are relative to where the command was started."""

    def columns(self, wanted: Set[str]) -> tuple[str, ...]:
        try:
            return tuple(column_types(self.tables, self.query()))
        except duckdb.Error as error:
            raise job_error("the query in source", error) from error

    def stage(self, rows: Path, limit: int | None) -> list[BrokenRow]:
        self.write_numbered(self.query(), rows, limit)
        return []

    def query(self) -> str:
        """Return the query as a table that more can be asked of."""
        # The line break ends a trailing comment; the semicolon is a habit.
        return f"SELECT * FROM (\n{self.place.strip().rstrip(';')}\n)"
