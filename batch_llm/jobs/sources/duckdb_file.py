"""DuckDB files: a table or a query of a database file; columns keep their types."""

from __future__ import annotations

from collections.abc import Generator, Set
from contextlib import contextmanager
from pathlib import Path

import duckdb

from batch_llm.errors import JobError
from batch_llm.jobs.databases import Address
from batch_llm.jobs.tables import Tables, column_types, job_error, text

from .base import BrokenRow
from .query import QuerySource


class DuckDBSource(QuerySource):
    """Rows of a DuckDB file."""

    def __init__(self, tables: Tables, address: Address) -> None:
        super().__init__(tables, address.select())
        self._address = address

    def columns(self, wanted: Set[str]) -> tuple[str, ...]:
        with self._attached():
            return tuple(column_types(self.tables, self.query()))

    def stage(self, rows: Path, limit: int | None) -> list[BrokenRow]:
        with self._attached():
            return super().stage(rows, limit)

    @contextmanager
    def _attached(self) -> Generator[None]:
        if not self._address.path.is_file():
            raise JobError(f"{self._address.path} does not exist: check source")
        try:
            self.tables.execute(f"ATTACH {text(self._address.path)} AS source_file (READ_ONLY)")
            self.tables.execute("USE source_file")
            try:
                yield
            finally:
                self.tables.execute("USE memory")
                self.tables.execute("DETACH source_file")
        except duckdb.Error as error:
            raise job_error(f"source {self._address.place!r}", error) from error
