"""Tables of databases: all rows are exchanged in one transaction."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import ClassVar

from batch_llm.jobs.storage.database_urls import Address, database_error
from batch_llm.jobs.storage.duckdb_session import Tables, column_types, name

from .base import Sink, nothing

_OTHER_COLUMNS = "written; where its columns shall change, drop it or name another"
_ADDED_LATER = ("finish_reason",)
"""Columns of ours that the tables of earlier versions lack: they are added to these, at the end."""


class Session(ABC):
    """A connection to the database of a table; what is not committed when it ends is undone."""

    def __init__(self, address: Address) -> None:
        self.address = address

    @abstractmethod
    def execute(self, statement: str) -> None:
        """Run a statement."""

    @abstractmethod
    def column_names(self) -> set[str]:
        """Return the names of the table's columns, in lower case."""

    @abstractmethod
    def fill(self, columns: Mapping[str, str], tables: Tables, query: str) -> None:
        """Add the rows of one of our queries, which has these columns and DuckDB types, to the table."""


class TableSink(Sink):
    """A table: made where there is none, else filled anew; its grants, views, indexes and other columns stay."""

    errors: ClassVar[tuple[type[Exception], ...]]
    """What the database's client raises."""

    def __init__(self, address: Address) -> None:
        self.address = address

    @abstractmethod
    def open(self) -> AbstractContextManager[Session]:
        """Connect to the database."""

    @abstractmethod
    def type_for(self, kind: str) -> str:
        """Return the database's type for one of DuckDB's."""

    def check(self, columns: Iterable[str]) -> None:
        typed = dict.fromkeys(columns, "VARCHAR")
        names, table = names_in(typed), self.address.table
        with self._transaction("written") as session:
            self._clear(session, typed)
            with self._wrapping_errors(_OTHER_COLUMNS):
                session.execute(f"INSERT INTO {table} ({names}) SELECT {names} FROM {table} WHERE 1 = 0")
            session.execute("ROLLBACK")

    def exists(self) -> bool:
        if self.address.kind != "postgresql" and not self.address.path.exists():
            return False  # to connect would make it
        try:
            with self.open() as session:
                session.execute(f"SELECT 1 FROM {self.address.table} LIMIT 0")
        except (*self.errors, OSError):
            return False
        return True

    def write(self, tables: Tables, queries: Sequence[str], before: Callable[[], None] = nothing) -> str:
        columns = column_types(tables, queries[0])
        with self._transaction(_OTHER_COLUMNS) as session:
            self._clear(session, columns)
            for query in queries:
                session.fill(columns, tables, query)
            before()
            session.execute("COMMIT")
        return self.address.place

    def remove(self) -> None:
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
    """SQL for a list of columns."""
    return ", ".join(map(name, columns))
