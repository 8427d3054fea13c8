"""A DuckDB query: joins, filters, files of the kinds that DuckDB reads; in a session that can do nothing else."""

from __future__ import annotations

import glob
from collections.abc import Generator, Iterator, Set
from contextlib import contextmanager
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
from batch_llm.jobs.storage.select_only import FILE_FUNCTIONS, ROW_FUNCTIONS, SelectStatement, parse_select

from .base import BrokenRow, Source
from .file_paths import exists
from .text_files import TEXT_ENDINGS

DATA_ENDINGS = TEXT_ENDINGS | {
    *(".csv", ".tsv", ".tab", ".psv", ".dat", ".json", ".jsonl", ".ndjson", ".geojson", ".parquet", ".pq")
}
"""Files that a query may read: data by their names, so that /proc/self/environ, a key or a .env file is none."""


class QuerySource(Source):
    """The rows of a query, in its order; file names in it are relative to where the command was started."""

    database: Path | None = None
    """A DuckDB file whose tables the query reads."""

    def __init__(self, tables: Tables, place: str, encoding: str | None = None) -> None:
        super().__init__(tables, place, encoding)
        self._query = place.strip().rstrip(";")  # a habit

    def columns(self, wanted: Set[str]) -> tuple[str, ...]:
        with self._wrapping_errors(), self._session(Path("none")) as tables:
            return tuple(column_types(tables, self._rows()))

    def stage(self, rows: Path, limit: int | None) -> list[BrokenRow]:
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
        as_json = f" REPLACE ({', '.join(unions)})" if unions else ""  # Parquet has none
        first = f" LIMIT {limit}" if limit else ""
        return f"SELECT row_number() OVER () AS _position, * FROM (SELECT *{as_json} FROM ({self._rows()}){first})"

    def _rows(self) -> str:
        """Return the query as a table that more can be asked of."""
        return f"SELECT * FROM (\n{self._query}\n)"  # the line break ends a trailing comment

    @contextmanager
    def _session(self, target: Path, memory: str = MEMORY_LIMIT) -> Generator[Tables]:
        found = self._parsed()
        with open_locked_tables(_files_of(found), target, self.database, memory) as tables:
            if refused := sorted((found.functions - ROW_FUNCTIONS - FILE_FUNCTIONS) & _own_functions(tables)):
                self._refuse(f"calls {refused[0]}(), which a query may not: a query reads tables and data files")
            yield tables

    def _parsed(self) -> SelectStatement:
        try:
            parse_select(self._query)  # alone it must be one, too: a bracket in it could end the one around it
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
    """Yield what the query may open: the data files that it names, and its patterns with the files that match."""
    for place in (*found.tables, *found.files):
        if split_ending(place)[0] not in DATA_ENDINGS:
            continue
        path = str(Path(place).expanduser() if place.startswith("~") else resolve(place))
        yield from (path, str(Path.cwd() / place))  # DuckDB looks there first
        if glob.has_magic(path) and not exists(place):
            matching = glob.iglob(path, recursive=True)  # noqa: PTH207  ** and absolute
            yield from (file for file in matching if split_ending(file)[0] in DATA_ENDINGS)


def _own_functions(tables: Tables) -> Set[str]:
    """Return DuckDB's own table functions; those that a database brings can read no more than the session can."""
    query = "SELECT lower(function_name) FROM duckdb_functions() WHERE function_type LIKE 'table%' AND internal"
    return {str(row[0]) for row in tables.execute(query).fetchall()}
