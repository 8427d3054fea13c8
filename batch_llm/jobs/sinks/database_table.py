"""Database tables as outputs; all rows are replaced in one transaction."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import ClassVar

from batch_llm.jobs.storage.database_urls import DatabaseAddress, database_error
from batch_llm.jobs.storage.duckdb_session import Tables, column_types, name

from .base import Sink, nothing

_OTHER_COLUMNS = "written; if its columns should change, drop the table or name another one"
_ADDED_LATER = ("finish_reason", "call_seconds")
"""Columns that tables of earlier versions do not have; they are added at the end of such a table."""


class Session(ABC):
    """A connection to the database of a table; closing it rolls back changes that are not committed."""

    def __init__(self, address: DatabaseAddress) -> None:
        self.address = address

    @abstractmethod
    def execute(self, statement: str) -> None:
        """Run a statement."""

    @abstractmethod
    def column_names(self) -> set[str]:
        """Return the names of the table's columns, in lower case."""

    @abstractmethod
    def fill(self, columns: Mapping[str, str], tables: Tables, query: str) -> None:
        """Insert the rows of a query into the table.

        Args:
            columns: Columns of the query and their DuckDB types.
            tables: The session that runs the query.
            query: The query.
        """


class TableSink(Sink):
    """A database table as an output.

    A missing table is created. In an existing table, all rows are replaced; its grants, views, indexes and other
    columns are kept.
    """

    errors: ClassVar[tuple[type[Exception], ...]]
    """Exceptions of the database's client."""

    def __init__(self, address: DatabaseAddress) -> None:
        self.address = address

    @abstractmethod
    def open(self) -> AbstractContextManager[Session]:
        """Connect to the database."""

    @abstractmethod
    def type_for(self, kind: str) -> str:
        """Return the database's type for a DuckDB type."""

    def check(self, columns: Iterable[str]) -> None:
        """Check that the output can be written; see `Sink.check`."""
        typed = dict.fromkeys(columns, "VARCHAR")
        names, table = names_in(typed), self.address.table
        with self._transaction("written") as session:
            self._clear(session, typed)
            with self._wrapping_errors(_OTHER_COLUMNS):
                session.execute(f"INSERT INTO {table} ({names}) SELECT {names} FROM {table} WHERE 1 = 0")
            session.execute("ROLLBACK")

    def exists(self) -> bool:
        """Whether the output exists; see `Sink.exists`."""
        if self.address.kind != "postgresql" and not self.address.path.exists():
            return False  # connecting would create the file
        try:
            with self.open() as session:
                session.execute(f"SELECT 1 FROM {self.address.table} LIMIT 0")
        except (*self.errors, OSError):
            return False
        return True

    def write(self, tables: Tables, queries: Sequence[str], before: Callable[[], None] = nothing) -> str:
        """Replace the output by the rows of queries; see `Sink.write`."""
        columns = column_types(tables, queries[0])
        with self._transaction(_OTHER_COLUMNS) as session:
            self._clear(session, columns)
            for query in queries:
                session.fill(columns, tables, query)
            before()
            session.execute("COMMIT")
        return self.address.place

    def remove(self) -> None:
        """Remove the output, if it exists."""
        with self._transaction("removed") as session:
            session.execute(f"DROP TABLE IF EXISTS {self.address.table}")
            session.execute("COMMIT")

    def _clear(self, session: Session, columns: Mapping[str, str]) -> None:
        table = self.address.table
        typed = ", ".join(f"{name(column)} {self.type_for(kind)}" for column, kind in columns.items())
        session.execute(f"CREATE TABLE IF NOT EXISTS {table} ({typed})")
        if lacking := [column for column in columns if column.endswith(_ADDED_LATER)]:
            known = session.column_names()
            for column in lacking:
                if column.lower() not in known:
                    kind = self.type_for(columns[column])
                    session.execute(f"ALTER TABLE {table} ADD COLUMN {name(column)} {kind}")
        session.execute(f"DELETE FROM {table}")

    @contextmanager
    def _transaction(self, done: str) -> Generator[Session]:
        with self._wrapping_errors(done), self.open() as session:
            session.execute("BEGIN")
            yield session

    @contextmanager
    def _wrapping_errors(self, done: str) -> Generator[None]:
        try:
            yield
        except (*self.errors, OSError) as error:
            raise database_error("output", self.address, error, done) from error


def names_in(columns: Mapping[str, str]) -> str:
    """Return SQL for a list of columns."""
    return ", ".join(map(name, columns))
