"""Databases of each kind for tests, in which statements are run without the code under test."""

from __future__ import annotations

import asyncio
import sqlite3
from dataclasses import dataclass
from typing import Any, cast

import asyncpg  # pyright: ignore[reportMissingTypeStubs]  has none
import duckdb


@dataclass(frozen=True)
class Database:
    """Database for one test.

    Attributes:
        kind: "sqlite", "duckdb" or "postgresql".
        place: Its address, without a table.
        file: Its file, or its URL.
    """

    kind: str
    place: str
    file: str

    def run(self, statements: str) -> list[tuple[Any, ...]]:
        """Run statements, and return the rows of the last one."""
        match self.kind:
            case "sqlite":
                with sqlite3.connect(self.file) as connection:
                    done = [connection.execute(statement).fetchall() for statement in statements.split(";")]
                connection.close()
                return done[-1]
            case "duckdb":
                with duckdb.connect(self.file) as tables:
                    return tables.execute(statements).fetchall()
            case _:
                return asyncio.run(run_on_postgres(self.file, statements))


async def run_on_postgres(url: str, statements: str) -> list[tuple[Any, ...]]:
    connection = await cast("Any", asyncpg).connect(url)
    try:
        done = [await connection.fetch(statement) for statement in statements.split(";")]
        return [tuple(row) for row in done[-1]]
    finally:
        await connection.close()
