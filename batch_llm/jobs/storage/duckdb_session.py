"""DuckDB sessions that spill to disk, use bounded memory and have no network access."""

from __future__ import annotations

import os
import re
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import duckdb

from batch_llm.errors import JobError

from .paths import home
from .scratch import temporary_folder

Tables: TypeAlias = duckdb.DuckDBPyConnection

# The largest row: a document of a few hundred pages in one cell.
MAX_ROW_BYTES = 64 * 1024 * 1024
ROWS_AT_ONCE = 1000
MEMORY_LIMIT = "500MB"
_LEAST_BUFFER = 1024 * 1024
_GROUP = "ROW_GROUP_SIZE 4096, ROW_GROUP_SIZE_BYTES '16MB'"
_AS_THEY_ARE = frozenset(
    {"VARCHAR", "JSON", "BOOLEAN", "DOUBLE", "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UBIGINT"}
)

_PATTERN = re.compile(r"[*?\[]")
_FULL = re.compile(r"No space left|Disk quota exceeded|Could not write|File too large|max_temp_directory_size", re.I)
_ODD_IN_HOME = re.compile(r"[*?\[\\,]")


@contextmanager
def open_tables(database: str | Path = ":memory:") -> Generator[Tables]:
    """Open a DuckDB session with its own folder for spilled data.

    Args:
        database: A database file; by default, the session is in memory and is discarded at the end.
    """
    with (
        temporary_folder() as spill,
        duckdb.connect(database, config=_settings(spill)) as tables,
    ):
        yield tables


@contextmanager
def open_locked_tables(
    files: Iterable[str], target: Path, database: Path | None = None, memory_limit: str = MEMORY_LIMIT
) -> Generator[Tables]:
    """Open a sandboxed session for user-written SQL: it reads the listed files and writes one.

    DuckDB checks each access to a file (https://duckdb.org/docs/stable/operations_manual/securing_duckdb/overview).

    Args:
        files: Paths and patterns that may be read.
        target: The only file that may be written.
        database: A DuckDB file to attach read-only; its tables need no prefix.
        memory_limit: Memory limit in DuckDB's syntax. SQL in the session cannot change the settings.
    """
    allowed = [*files, str(target), str(target.with_name(f"tmp_{target.name}"))]  # DuckDB's name of a partial file
    with temporary_folder() as spill:
        settings = _settings(spill) | {"memory_limit": memory_limit, "threads": 1, "preserve_insertion_order": False}
        with duckdb.connect(config=settings) as tables:
            if database is not None:
                tables.execute(f"ATTACH {text(database)} AS source_file (READ_ONLY)")
                tables.execute("USE source_file")
            tables.execute(f"SET allowed_paths = [{', '.join(map(text, allowed))}]")
            tables.execute("SET enable_external_access = false")
            tables.execute("SET lock_configuration = true")
            yield tables


def _settings(spill: Path) -> dict[str, str | bool | int | float | list[str]]:
    return {
        "memory_limit": MEMORY_LIMIT,
        "threads": min(4, os.cpu_count() or 1),  # each thread has its own buffers
        "temp_directory": str(spill),
        "allocator_background_threads": True,  # freed memory is returned to the operating system
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
        "allow_community_extensions": "false",
        "python_enable_replacements": "false",  # SQL must not see Python variables
        "file_search_path": str(_search_path(spill)),
    }


def session_folder(tables: Tables) -> Path:
    """Return a folder for files that a session reads; it is removed when the session closes."""
    (spill,) = tables.execute("SELECT current_setting('temp_directory')").fetchone() or ("",)
    folder = Path(str(spill)) / "read"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _search_path(spill: Path) -> Path:
    """Return a path of the home folder that DuckDB accepts: without commas, brackets and wildcards."""
    if not _ODD_IN_HOME.search(str(home())):
        return home()
    alias = spill / "home"
    alias.symlink_to(home().absolute(), target_is_directory=True)
    return alias


def execute(tables: Tables, statement: str) -> Tables:
    """Run a statement; when it runs out of memory, double the memory limit and run it again.

    Raises:
        duckdb.OutOfMemoryException: The statement needs more memory than DuckDB may use on this machine.
    """
    while True:
        try:
            return tables.execute(statement)
        except duckdb.OutOfMemoryException:
            if not (more := more_memory(tables)):
                raise
            tables.execute(f"SET memory_limit = {text(more)}")


def more_memory(tables: Tables) -> str:
    """Return twice the session's memory limit, at most DuckDB's default; empty when that is already reached."""
    with duckdb.connect() as other:
        most = _memory_limit(other)  # DuckDB's default, which respects the limits of containers
    limit = _memory_limit(tables)
    return f"{min(2 * limit, most)}B" if limit < most else ""


@contextmanager
def joining_as_written(tables: Tables) -> Generator[None]:
    """Make joins keep their right side in memory and stream their left side, in its order.

    By default, DuckDB keeps the smaller side in memory. It cannot estimate how many records a JSON Lines file has, so
    it would keep the answers.
    """
    tables.execute("SET disabled_optimizers = 'join_order,build_side_probe_side'")
    try:
        yield
    finally:
        tables.execute("RESET disabled_optimizers")


def _memory_limit(tables: Tables) -> int:
    """Return the session's memory limit in bytes."""
    (limit,) = tables.execute("SELECT current_setting('memory_limit')").fetchone() or ("0 bytes",)
    number, unit = str(limit).split()
    return int(float(number) * 1024 ** ["bytes", "KiB", "MiB", "GiB", "TiB"].index(unit))


def write_parquet(tables: Tables, query: str, path: Path, *, compression: str = "snappy") -> None:
    """Write the rows of a query, in their order, to a Parquet file with small row groups.

    A row group is in memory as a whole, both when it is written and when it is read. DuckDB limits a group by bytes
    only when the order need not be preserved, but a single thread preserves it anyway.

    Args:
        tables: The session.
        query: The query.
        path: The file to write.
        compression: Name of a compression that DuckDB supports.
    """
    (threads,) = tables.execute("SELECT current_setting('threads')").fetchone() or (1,)
    tables.execute("SET threads = 1; SET preserve_insertion_order = false")
    try:
        execute(tables, parquet_copy(query, path, compression))
    finally:
        tables.execute(f"SET threads = {threads}; RESET preserve_insertion_order")


def parquet_copy(query: str, path: Path, compression: str = "snappy") -> str:
    """Return SQL that writes the rows of a query to a Parquet file; it needs the settings of `write_parquet`."""
    return f"COPY ({query}) TO {text(path)} (FORMAT parquet, COMPRESSION {compression}, {_GROUP})"


def json_lines(path: Path, columns: Mapping[str, str], longest: int) -> str:
    """Return SQL that reads a JSON Lines file.

    Args:
        path: The file.
        columns: The columns and their DuckDB types.
        longest: Bytes of the longest line; DuckDB allocates twice as many.
    """
    types = ", ".join(f"{text(column)}: {text(kind)}" for column, kind in columns.items())
    return (
        f"SELECT * FROM read_json({file_text(path)}, format='newline_delimited', columns={{{types}}}, "
        f"maximum_object_size={max(longest, _LEAST_BUFFER)})"
    )


def rows_of(tables: Tables, query: str) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of a query; they are fetched in batches."""
    cursor = tables.cursor()
    try:
        result = execute(cursor, query)
        while batch := result.fetchmany(ROWS_AT_ONCE):
            yield from batch
    finally:
        cursor.close()


def column_types(tables: Tables, query: str) -> dict[str, str]:
    """Return the columns of a query and their DuckDB types, without running the query."""
    return {str(row[0]): str(row[1]) for row in tables.execute(f"DESCRIBE {query}").fetchall()}


def name(column: str) -> str:
    """Quote the name of a column for SQL."""
    return '"' + column.replace('"', '""') + '"'


def text(value: object) -> str:
    """Quote a string for SQL."""
    return "'" + str(value).replace("'", "''") + "'"


def file_text(path: object) -> str:
    """Quote the path of one existing local file for SQL that reads it.

    DuckDB treats a path with *, ? or [ as a pattern, which may match other files, or none. In a pattern, DuckDB treats
    a backslash as a separator, so a backslash can only be written as a wildcard for one character.
    """
    return text(literal(path))


def literal(path: object) -> str:
    """Escape the path of one existing file, so that DuckDB reads this file only."""
    place = str(path)
    return _PATTERN.sub(r"[\g<0>]", place).replace("\\", "?") if _PATTERN.search(place) else place


def is_nested(kind: str) -> bool:
    """Whether a DuckDB type holds other values: a list, a struct, a map."""
    return kind.endswith("]") or kind.startswith(("STRUCT", "MAP", "UNION"))


def one_line(error: duckdb.Error) -> str:
    """Return the first line of DuckDB's message, without the prefix."""
    message = str(error).strip().splitlines()[0]
    return message.split(": ", 1)[-1] if " Error: " in message else message


def job_error(place: str, error: duckdb.Error) -> JobError:
    """Return an error that reports why DuckDB cannot read a source, and what to do.

    Args:
        place: How the message names the source.
        error: The exception of DuckDB.
    """
    if missing := re.search(r"INSTALL \W?(\w+)", str(error)):
        return JobError(
            f"{place} needs DuckDB's extension {missing[1]}, and extensions are disabled: export the data to a file, "
            "name a table as sqlite:///file.db#table or postgresql://host/db#table, or use a URL as the source itself"
        )
    if isinstance(error, duckdb.PermissionException):
        return JobError(
            f"{place} cannot be read: {one_line(error).partition(' - ')[0]}; a query can only read the data files "
            "that it names in quotes, such as from 'docs.parquet' or read_csv('docs/*.csv')"
        )
    if _FULL.search(str(error)):
        return JobError(f"no disk space for a copy of {place}: {one_line(error)}; free some space, or set TMPDIR")
    return JobError(f"{place} cannot be read: {one_line(error)}")


def plain(column: str, kind: str) -> str:
    """Return SQL for a value that Python can read: a number, a boolean, text, or JSON as text (see `is_json`)."""
    if is_nested(kind):
        return f"to_json({name(column)})"
    return name(column) if kind in _AS_THEY_ARE else f"CAST({name(column)} AS VARCHAR)"


def is_json(kind: str) -> bool:
    """Whether `plain` returns JSON for a column of this DuckDB type."""
    return kind == "JSON" or is_nested(kind)
