"""A PostgreSQL table as an output."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import asyncpg  # pyright: ignore[reportMissingTypeStubs]  has none

from batch_llm.jobs.storage.database_urls import DatabaseAddress
from batch_llm.jobs.storage.duckdb_session import Tables, name, text
from batch_llm.jobs.storage.scratch import temporary_folder

from .database_table import Session, TableSink
from .output_columns import flat

_TYPES = {
    "BOOLEAN": "boolean",
    **dict.fromkeys(("TINYINT", "SMALLINT", "INTEGER", "BIGINT"), "bigint"),
    **dict.fromkeys(("UBIGINT", "HUGEINT", "UHUGEINT"), "numeric"),
    **dict.fromkeys(("FLOAT", "DOUBLE"), "double precision"),
    "DATE": "date",
    "TIMESTAMP": "timestamp",
    "TIMESTAMP WITH TIME ZONE": "timestamptz",
    "BLOB": "bytea",
}


class PostgresSink(TableSink):
    """A PostgreSQL table; nested values become JSON in text columns.

    The columns of an existing table may have any type that accepts the values.
    """

    errors = (asyncpg.PostgresError, asyncpg.InterfaceError)

    @contextmanager
    def open(self) -> Generator[Session]:
        """Connect to the database."""
        with asyncio.Runner() as runner:
            connection = runner.run(_connect(self.address.database))
            try:
                yield _PostgresSession(self.address, runner, connection)
            finally:
                connection.terminate()

    def type_for(self, kind: str) -> str:
        """Return the database's type for a DuckDB type."""
        return _type_for(kind)


class _PostgresSession(Session):
    def __init__(self, address: DatabaseAddress, runner: asyncio.Runner, connection: Any) -> None:
        super().__init__(address)
        self._runner = runner
        self._connection = connection

    def execute(self, statement: str) -> None:
        self._runner.run(self._connection.execute(statement))

    def column_names(self) -> set[str]:
        query = f"SELECT attname FROM pg_attribute WHERE attrelid = {text(self.address.table)}::regclass AND attnum > 0"
        found: list[Any] = self._runner.run(self._connection.fetch(query))
        return {str(row["attname"]).lower() for row in found}

    def fill(self, columns: Mapping[str, str], tables: Tables, query: str) -> None:
        flattened = f"SELECT {', '.join(flat(columns))} FROM ({query})"
        cells = ", ".join(_cell(column, kind) for column, kind in columns.items())
        with temporary_folder() as folder:
            rows = folder / "rows.csv"
            tables.execute(f"COPY (SELECT {cells} FROM ({flattened})) TO {text(rows)} (FORMAT csv, HEADER false)")
            self._runner.run(self._copy(rows, list(columns)))

    async def _copy(self, rows: Path, columns: list[str]) -> None:
        *schema, table = self.address.rows.split(".")
        named = schema[0] if schema else None
        await self._connection.copy_to_table(table, schema_name=named, source=rows, columns=columns, format="csv")


def _cell(column: str, kind: str) -> str:
    """Return SQL for a value as PostgreSQL's COPY reads it; PostgreSQL does not accept the character NUL."""
    value = name(column)
    if kind == "BLOB":
        return f"'\\x' || hex({value})"
    return f"replace({value}::VARCHAR, chr(0), '')" if _type_for(kind) == "text" else value


def _type_for(kind: str) -> str:
    return "numeric" if kind.startswith("DECIMAL") else _TYPES.get(kind, "text")


async def _connect(url: str) -> Any:
    return await cast("Any", asyncpg).connect(url)
