"""A table in an SQLite file as an output."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator, Mapping
from contextlib import closing, contextmanager

from batch_llm.jobs.storage.database_urls import DatabaseAddress
from batch_llm.jobs.storage.duckdb_session import Tables, is_nested, name, plain
from batch_llm.jobs.storage.json_sql import finite_values

from .database_table import Session, TableSink, names_in

_INTEGERS = frozenset({"BOOLEAN", "TINYINT", "SMALLINT", "INTEGER", "BIGINT"})


class SqliteSink(TableSink):
    """A table in an SQLite file; nested values, dates and decimals become text, as SQLite has no such types."""

    errors = (sqlite3.Error,)

    @contextmanager
    def open(self) -> Generator[Session]:
        """Connect to the database."""
        self.address.path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(self.address.path, timeout=60, isolation_level=None)) as connection:
            yield _SqliteSession(self.address, connection)

    def type_for(self, kind: str) -> str:
        """Return the database's type for a DuckDB type."""
        return "INTEGER" if kind in _INTEGERS else {"DOUBLE": "REAL", "BLOB": "BLOB"}.get(kind, "TEXT")


class _SqliteSession(Session):
    def __init__(self, address: DatabaseAddress, connection: sqlite3.Connection) -> None:
        super().__init__(address)
        self._connection = connection

    def execute(self, statement: str) -> None:
        self._connection.execute(statement)

    def column_names(self) -> set[str]:
        found = self._connection.execute(f"SELECT * FROM {self.address.table} LIMIT 0").description or ()
        return {str(column[0]).lower() for column in found}

    def fill(self, columns: Mapping[str, str], tables: Tables, query: str) -> None:
        values = ", ".join(_value(column, kind) for column, kind in columns.items())
        placeholders = ", ".join("?" for _ in columns)
        self._connection.executemany(
            f"INSERT INTO {self.address.table} ({names_in(columns)}) VALUES ({placeholders})",
            iter(tables.execute(f"SELECT {values} FROM ({query})").fetchone, None),
        )


def _value(column: str, kind: str) -> str:
    """Return SQL for a value as SQLite stores it; SQLite integers are signed and have 64 bits."""
    value = name(column)
    if is_nested(kind):
        return f"to_json({finite_values(value, kind)})"
    return value if kind == "BLOB" else f"{value}::VARCHAR" if kind == "UBIGINT" else plain(column, kind)
