"""SQLite sources: a table or a query of a database file. In SQLite, values have types, but columns do not."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator, Iterator, Set
from contextlib import closing, contextmanager
from typing import Any

from batch_llm.errors import JobError
from batch_llm.jobs.storage.database_urls import DatabaseAddress, database_error
from batch_llm.jobs.storage.duckdb_session import Tables

from .base import BrokenRow
from .columns import unique_names
from .rows import RowSource

_READING = {
    sqlite3.SQLITE_SELECT,
    sqlite3.SQLITE_READ,
    sqlite3.SQLITE_FUNCTION,
    sqlite3.SQLITE_RECURSIVE,
    sqlite3.SQLITE_PRAGMA,  # for pragma_table_info() and full-text search; a SELECT cannot run a pragma that writes
}
_SIDE_EFFECTS = frozenset({"edit", "fts3_tokenizer", "load_extension", "readfile", "writefile"})
"""Functions with side effects, in builds of SQLite that have these functions."""


class _NotUtf8(bytes):
    """A text value that is not valid UTF-8."""


class SqliteSource(RowSource):
    """Rows of an SQLite table or query, read through a cursor."""

    def __init__(self, tables: Tables, address: DatabaseAddress) -> None:
        super().__init__(tables, address.place)
        self._address = address

    def columns(self, wanted: Set[str]) -> tuple[str, ...]:
        """Return the names of the columns; see `Source.columns`."""
        with self._running() as cursor:  # SQLite computes a row only when it is fetched
            return _names(cursor)

    def rows(self) -> Iterator[dict[str, Any] | BrokenRow]:
        """Yield the rows and the broken rows; see `RowSource.rows`."""
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
    """Allow actions that read rows, deny all others (https://www.sqlite.org/c3ref/set_authorizer.html)."""
    # A table function such as json_each() declares its columns with an UPDATE; the file is opened read-only.
    declares = action == sqlite3.SQLITE_UPDATE and first == "sqlite_master"
    reads = action in _READING and (second or "").lower() not in _SIDE_EFFECTS
    return sqlite3.SQLITE_OK if reads or declares else sqlite3.SQLITE_DENY


def _names(cursor: sqlite3.Cursor) -> tuple[str, ...]:
    return unique_names(str(column[0]) for column in cursor.description)


def _text(value: bytes) -> str | _NotUtf8:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return _NotUtf8(value)
