"""A table in a DuckDB file as an output."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager

import duckdb

from batch_llm.errors import JobError
from batch_llm.jobs.storage.database_urls import DatabaseAddress
from batch_llm.jobs.storage.duckdb_session import Tables, column_types, file_text, name, open_tables, write_parquet
from batch_llm.jobs.storage.scratch import temporary_folder

from .database_table import Session, TableSink, names_in


class DuckDBSink(TableSink):
    """A table in a DuckDB file; columns keep their types."""

    errors = (duckdb.Error,)

    @contextmanager
    def open(self) -> Generator[Session]:
        """Connect to the database."""
        self.address.path.parent.mkdir(parents=True, exist_ok=True)
        if "?" in str(self.address.path):
            raise JobError(f"output {self.address.path} cannot be written: DuckDB does not support ? in a path")
        with open_tables(self.address.path) as database:
            yield _DuckDBSession(self.address, database)

    def type_for(self, kind: str) -> str:
        """Return the database's type for a DuckDB type."""
        return kind


class _DuckDBSession(Session):
    def __init__(self, address: DatabaseAddress, database: Tables) -> None:
        super().__init__(address)
        self._database = database

    def execute(self, statement: str) -> None:
        self._database.execute(statement)

    def column_names(self) -> set[str]:
        return {column.lower() for column in self._types()}

    def _types(self) -> dict[str, str]:
        return column_types(self._database, f"FROM {self.address.table}")

    def fill(self, columns: Mapping[str, str], tables: Tables, query: str) -> None:
        with temporary_folder() as folder:
            rows = folder / "rows.parquet"
            write_parquet(tables, query, rows)
            there = {column.lower(): kind for column, kind in self._types().items()}
            # A column of an earlier version may have the type JSON, which takes text only as a JSON string.
            values = [
                f"to_json({name(column)})"
                if there.get(column.lower()) == "JSON" and kind == "VARCHAR"
                else name(column)
                for column, kind in columns.items()
            ]
            selected = f"SELECT {', '.join(values)} FROM {file_text(rows)}"
            self.execute(f"INSERT INTO {self.address.table} ({names_in(columns)}) {selected}")
