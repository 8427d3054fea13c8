"""Parquet: columns keep their types."""

from __future__ import annotations

from collections.abc import Set
from pathlib import Path

import duckdb

from batch_llm.errors import JobError
from batch_llm.jobs.tables import column_types, job_error, text

from .base import BrokenRow, Source
from .places import find_files


class ParquetSource(Source):
    """One or several .parquet files; a column that some of them lack is null there."""

    def columns(self, wanted: Set[str]) -> tuple[str, ...]:
        try:
            columns = tuple(column_types(self.tables, self._query()))
            if self.tables.execute(f"SELECT count(*) FROM ({self._query()})").fetchone() == (0,):
                raise JobError(f"{self.place} has no rows: check source")
        except duckdb.Error as error:
            raise job_error(self.place, error) from error
        return columns

    def stage(self, rows: Path, limit: int | None) -> list[BrokenRow]:
        self.write_numbered(self._query(), rows, limit)
        return []

    def _query(self) -> str:
        files = ", ".join(map(text, find_files(self.tables, self.place)))
        return f"SELECT * FROM read_parquet([{files}], union_by_name=true)"
