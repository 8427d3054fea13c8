"""A DuckDB query: joins, filters, files of any kind that DuckDB reads."""

from __future__ import annotations

from collections.abc import Set
from pathlib import Path

import duckdb

from batch_llm.jobs.finite import finite_values
from batch_llm.jobs.tables import column_types, job_error, name

from .base import BrokenRow, Source


class QuerySource(Source):
    """The rows of a query, in its order; file names in it are relative to where the command was started."""

    def columns(self, wanted: Set[str]) -> tuple[str, ...]:
        try:
            return tuple(column_types(self.tables, self.query()))
        except duckdb.Error as error:
            raise job_error("the query in source", error) from error

    def stage(self, rows: Path, limit: int | None) -> list[BrokenRow]:
        types = column_types(self.tables, self.query())
        unions = [
            f"to_json({finite_values(name(column), kind)}) AS {name(column)}"
            for column, kind in types.items()
            if "UNION(" in kind
        ]
        as_json = f" REPLACE ({', '.join(unions)})" if unions else ""  # Parquet has none
        self.write_numbered(f"SELECT *{as_json} FROM ({self.query()})", rows, limit)
        return []

    def query(self) -> str:
        """Return the query as a table that more can be asked of."""
        # The line break ends a trailing comment; the semicolon is a habit.
        return f"SELECT * FROM (\n{self.place.strip().rstrip(';')}\n)"
