"""Query sources: a DuckDB SELECT over data files, which runs in a sandboxed session."""

from __future__ import annotations

import glob
from collections.abc import Generator, Iterable, Iterator, Set
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Never

import duckdb

from batch_llm.errors import JobError
from batch_llm.jobs.storage.duckdb_session import (
    MEMORY_LIMIT,
    Tables,
    column_types,
    job_error,
    more_memory,
    name,
    open_locked_tables,
    parquet_copy,
)
from batch_llm.jobs.storage.formats import split_ending
from batch_llm.jobs.storage.json_sql import finite_values
from batch_llm.jobs.storage.paths import resolve
from batch_llm.jobs.storage.select_only import (
    FILE_FUNCTIONS,
    ROW_FUNCTIONS,
    SESSION_FUNCTIONS,
    SelectStatement,
    parse_select,
)

from .base import BrokenRow, Source
from .file_paths import exists
from .text_files import TEXT_ENDINGS

DATA_ENDINGS = TEXT_ENDINGS | {
    *(".csv", ".tsv", ".tab", ".psv", ".dat", ".json", ".jsonl", ".ndjson", ".geojson", ".parquet", ".pq")
}
"""Extensions of the files that a query may read: data files, but not /proc/self/environ, keys or .env files."""


class QuerySource(Source):
    """Rows of a DuckDB query, in its order; relative file names start from the jobs' home folder."""

    database: Path | None = None
    """A DuckDB file whose tables the query reads."""

    def __init__(self, tables: Tables, place: str, encoding: str | None = None) -> None:
        super().__init__(tables, place, encoding)
        self._query = place.strip().rstrip(";")  # a trailing semicolon is common

    def columns(self, wanted: Set[str]) -> tuple[str, ...]:
        """Return the names of the columns; see `Source.columns`."""
        with self._wrapping_errors(), self._session(Path("none")) as tables:
            return tuple(column_types(tables, self._rows()))

    def stage(self, rows: Path, limit: int | None) -> list[BrokenRow]:
        """Write the rows to a numbered Parquet file; see `Source.stage`."""
        memory = MEMORY_LIMIT
        while True:
            with self._wrapping_errors(), self._session(rows, memory) as tables:
                try:
                    tables.execute(parquet_copy(self._numbered(tables, limit), rows))
                except duckdb.OutOfMemoryException:
                    if not (memory := more_memory(tables)):
                        raise
                else:
                    return []

    def _numbered(self, tables: Tables, limit: int | None) -> str:
        unions = [
            f"to_json({finite_values(name(column), kind)}) AS {name(column)}"
            for column, kind in column_types(tables, self._rows()).items()
            if "UNION(" in kind
        ]
        as_json = f" REPLACE ({', '.join(unions)})" if unions else ""  # Parquet has no unions
        first = f" LIMIT {limit}" if limit else ""
        return f"SELECT row_number() OVER () AS _position, * FROM (SELECT *{as_json} FROM ({self._rows()}){first})"

    def _rows(self) -> str:
        """Return a SELECT of the query's rows, which can be used as a subquery."""
        return f"SELECT * FROM (\n{self._query}\n)"  # the line break ends a trailing comment

    @contextmanager
    def _session(self, target: Path, memory: str = MEMORY_LIMIT) -> Generator[Tables]:
        found = self._parsed
        with open_locked_tables(_files_of(found), target, self.database, memory) as tables:
            refused = (found.functions - ROW_FUNCTIONS - FILE_FUNCTIONS) & _own_functions(tables)
            if calls := sorted(refused | (found.scalars & SESSION_FUNCTIONS)):
                self._refuse(f"calls {calls[0]}(), which is not allowed: a query can only read tables and data files")
            if views := sorted(_own_views(tables, found.tables)):
                self._refuse(f"reads {views[0]}, which is not allowed: a query can only read tables and data files")
            yield tables

    @cached_property
    def _parsed(self) -> SelectStatement:
        try:
            parse_select(self._query)  # checked alone too: its bracket could close the one of the subquery
            return parse_select(self._rows())
        except ValueError as error:
            self._refuse(str(error), error)

    def _refuse(self, why: str, error: Exception | None = None) -> Never:
        raise JobError(f"{self._label} {why}") from error

    @property
    def _label(self) -> str:
        return "the query in source"

    @contextmanager
    def _wrapping_errors(self) -> Generator[None]:
        try:
            yield
        except duckdb.OutOfMemoryException:
            raise
        except duckdb.Error as error:
            raise job_error(self._label, error) from error


def _files_of(found: SelectStatement) -> Iterator[str]:
    """Yield the paths that a query may open: data files that it names, its patterns, and the matching data files."""
    for place in (*found.tables, *found.files):
        if split_ending(place)[0] not in DATA_ENDINGS:
            continue
        path = str(Path(place).expanduser() if place.startswith("~") else resolve(place))
        yield from (path, str(Path.cwd() / place))  # DuckDB tries the working directory first
        if glob.has_magic(path) and not exists(place):
            matching = glob.iglob(path, recursive=True)  # noqa: PTH207  ** and absolute
            yield from (file for file in matching if split_ending(file)[0] in DATA_ENDINGS)


def _own_functions(tables: Tables) -> Set[str]:
    """Return the built-in table functions of DuckDB; macros of a database have only the session's access."""
    query = "SELECT lower(function_name) FROM duckdb_functions() WHERE function_type LIKE 'table%' AND internal"
    return {str(row[0]) for row in tables.execute(query).fetchall()}


def _own_views(tables: Tables, used: Iterable[str]) -> Iterator[str]:
    """Yield the names that mean a view of DuckDB on its settings and its catalog, such as `pg_settings`."""
    query = "SELECT schema_name, view_name FROM duckdb_views() WHERE internal"
    own = {(str(schema), str(view)) for schema, view in tables.execute(query).fetchall()}
    found_without_schema = {view for schema, view in own if schema != "information_schema"}
    for place in used:
        *schemas, view = place.lower().split(".")
        if (schemas[-1], view) in own if schemas else view in found_without_schema:
            yield place
