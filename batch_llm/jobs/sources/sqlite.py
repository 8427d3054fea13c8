"""SQLite: a table or a query of a database file. In SQLite a value has a type, and a column none."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator, Iterator, Set
from contextlib import closing, contextmanager
from typing import Any

from batch_llm.errors import JobError
from batch_llm.jobs.storage.database_urls import Address, database_error
from batch_llm.jobs.storage.duckdb_session import Tables

from .base import BrokenRow
from .columns import unique_names
from .rows import RowSource

_READING = {
    sqlite3.SQLITE_SELECT,
    sqlite3.SQLITE_READ,
    sqlite3.SQLITE_FUNCTION,
    sqlite3.SQLITE_RECURSIVE,
    sqlite3.SQLITE_PRAGMA,  # of pragma_table_info() and of full-text search: a SELECT reaches none that changes
}
_ACTING = frozenset({"edit", "fts3_tokenizer", "load_extension", "readfile", "writefile"})
"""Functions that do more than to compute, where an SQLite was built with them."""


class _NotUtf8(bytes):
    """Text that is none."""


class SqliteSource(RowSource):
    """Rows of an SQLite file, read as they come."""

    def __init__(self, tables: Tables, address: Address) -> None:
        super().__init__(tables, address.place)
        self._address = address

    def columns(self, wanted: Set[str]) -> tuple[str, ...]:
        with self._running() as cursor:  # which makes no row before it is asked for one
            return _names(cursor)

    def rows(self) -> Iterator[dict[str, Any] | BrokenRow]:
        with self._running() as cursor:
            columns = _names(cursor)
            for number, values in enumerate(cursor, start=1):
                row: dict[str, Any] = dict(zip(columns, values, strict=True))
                bad = next((column for column, value in row.items() if isinstance(value, _NotUtf8)), None)
                yield row if bad is None else BrokenRow(f"row {number}", f"row {number}: {bad!r} is not UTF-8")

    @contextmanager
    def _running(self) -> Generator[sqlite3.Cursor]:
        if not self._address.path.is_file():
            raise JobError(f"{self._address.path} does not exist: check source")
        try:
            with closing(sqlite3.connect(f"{self._address.path.as_uri()}?mode=ro", uri=True)) as connection:
                connection.text_factory = _text
                connection.set_authorizer(_only_reading)
                yield connection.execute(self._address.select())
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_AUTH:
                raise JobError(f"source {self._address.place!r} must be one SELECT and nothing else") from error
            raise database_error("source", self._address, error, "read") from error
        except sqlite3.Error as error:
            raise database_error("source", self._address, error, "read") from error


def _only_reading(action: int, first: str | None, second: str | None, *_: str | None) -> int:
    """Let SQLite's own parser allow what reads rows, and deny all else (https://www.sqlite.org/c3ref/set_authorizer.html)."""
    # A table function such as json_each() declares its columns so; the file is opened read-only.
    declares = action == sqlite3.SQLITE_UPDATE and first == "sqlite_master"
    reads = action in _READING and (second or "").lower() not in _ACTING
    return sqlite3.SQLITE_OK if reads or declares else sqlite3.SQLITE_DENY


def _names(cursor: sqlite3.Cursor) -> tuple[str, ...]:
    return unique_names(str(column[0]) for column in cursor.description)


def _text(value: bytes) -> str | _NotUtf8:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return _NotUtf8(value)
