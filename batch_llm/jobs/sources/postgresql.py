"""PostgreSQL sources: a table or a query, read through a server-side cursor."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Generator, Iterator, Set
from contextlib import contextmanager
from typing import Any, cast

import asyncpg  # pyright: ignore[reportMissingTypeStubs]  has none

from batch_llm.jobs.storage.database_urls import DatabaseAddress, check_query, database_error
from batch_llm.jobs.storage.duckdb_session import Tables

from .columns import unique_names
from .rows import RowSource

_ROWS_AT_ONCE = 100
"""Rows that are in memory together; documents can be large."""


class PostgresSource(RowSource):
    """Rows of a PostgreSQL table or query, read in a read-only transaction with a stable snapshot."""

    def __init__(self, tables: Tables, address: DatabaseAddress) -> None:
        super().__init__(tables, address.place)
        self._address = address

    def columns(self, wanted: Set[str]) -> tuple[str, ...]:
        """Return the names of the columns; see `Source.columns`."""
        with self._prepared() as (_, statement):
            return _names(statement)

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield the rows and the broken rows; see `RowSource.rows`."""
        with self._prepared() as (runner, statement):
            columns = _names(statement)
            cursor = runner.run(_open(statement))
            while found := runner.run(cursor.fetch(_ROWS_AT_ONCE)):
                for row in found:
                    yield dict(zip(columns, row.values(), strict=True))

    @contextmanager
    def _prepared(self) -> Generator[tuple[asyncio.Runner, Any]]:
        if self._address.is_query:
            check_query(self._address)
        try:
            with asyncio.Runner() as runner:
                connection = runner.run(_connect(self._address.database))
                try:
                    runner.run(connection.transaction(isolation="repeatable_read", readonly=True).start())
                    yield runner, runner.run(connection.prepare(self._address.select()))
                finally:
                    connection.terminate()
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            raise database_error("source", self._address, error, "read") from error


async def _connect(url: str) -> Any:
    connection = await cast("Any", asyncpg).connect(url)
    for kind in ("json", "jsonb"):
        await connection.set_type_codec(kind, schema="pg_catalog", encoder=json.dumps, decoder=json.loads)
    return connection


async def _open(statement: Any) -> Any:
    return await statement.cursor()


def _names(statement: Any) -> tuple[str, ...]:
    return unique_names(column.name for column in statement.get_attributes())
