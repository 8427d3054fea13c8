"""Sources of a job: files, folders, database tables and queries.

The name of a source comes in; a numbered table of its rows goes out. To add a kind of source, write a subclass of
`Source` in a new file here, and add it to `open_source`. This package imports `storage`.
"""

from __future__ import annotations

from pathlib import PurePath

from batch_llm.errors import JobError
from batch_llm.jobs.storage.database_urls import QUERY, DatabaseAddress, parse_database_address
from batch_llm.jobs.storage.duckdb_session import Tables
from batch_llm.jobs.storage.formats import split_ending
from batch_llm.jobs.storage.paths import project_folder, resolve

from .base import BrokenRow, Source
from .csv import CsvSource
from .duckdb_file import DuckDBSource
from .duckdb_query import QuerySource
from .file_paths import exists, files_at, has_wildcards, is_folder, is_glob, is_remote
from .file_selection import FilesSource, counted_files
from .json import JsonLinesSource, JsonSource
from .parquet import ParquetSource
from .postgresql import PostgresSource
from .sqlite import SqliteSource
from .text_files import TextFilesSource
from .xlsx import XlsxSource, split_sheet

__all__ = ["BrokenRow", "Source", "endings_of", "open_source"]

SAMPLES = "samples"
_FILES: tuple[type[FilesSource], ...] = (
    TextFilesSource,  # first: a glob that matches texts and other files reads the texts, as a folder does
    CsvSource,
    JsonLinesSource,
    JsonSource,
    ParquetSource,
    XlsxSource,
)
_BY_ENDING = {ending: kind for kind in _FILES for ending in kind.endings}

_ALLOWED = (
    f"a file ({', '.join(sorted(_BY_ENDING))}; text, CSV and JSON also as .gz or .zst), a glob of such files, a folder "
    "of text files, a table in a database (sqlite:///file.db#table), or a query that starts with 'select'"
)


def open_source(tables: Tables, source: str, encoding: str | None = None) -> Source:
    """Return a reader for a job's source.

    Args:
        tables: The session that reads the rows.
        source: A file, a glob, a URL, a folder of text files, a database table, or a query; a sheet of an Excel file is
            named as `book.xlsx#Sheet`.
        encoding: Encoding of text files; by default it is detected from the byte order mark, or else UTF-8.

    Raises:
        JobError: The source does not exist, or its kind is not supported.

    Example:
        >>> with open_tables() as tables:
        ...     broken = open_source(tables, "tickets.csv").stage(Path("rows.parquet"), limit=None)
    """
    if source == SAMPLES:
        return TextFilesSource(tables, str(project_folder() / "deployments" / "samples"))
    if QUERY.match(source):
        return QuerySource(tables, source)
    if address := parse_database_address(source):
        return _open_database(tables, address)
    return _kind_of(split_sheet(source)[0])(tables, source, encoding)


def endings_of(source: str) -> frozenset[str]:
    """Return the extensions of the files that a source of files reads, without the extension of a compression.

    Raises:
        JobError: The source does not exist, or its kind is not supported.
    """
    return _kind_of(split_sheet(source)[0]).endings


def _open_database(tables: Tables, address: DatabaseAddress) -> Source:
    match address.kind:
        case "sqlite":
            return SqliteSource(tables, address)
        case "duckdb":
            return DuckDBSource(tables, address)
        case "postgresql":
            return PostgresSource(tables, address)


def _kind_of(source: str) -> type[FilesSource]:
    if kind := _BY_ENDING.get(split_ending(source)[0]):
        return kind
    if is_folder(source):
        return TextFilesSource
    if is_glob(source) or (is_remote(source) and has_wildcards(source)):
        return _kind_in(source)
    if is_remote(source) or exists(source):
        raise JobError(f"source {source!r} is not supported: use {_ALLOWED}")
    raise JobError(f"{resolve(source)} does not exist: check source")


def _kind_in(pattern: str) -> type[FilesSource]:
    """Return the kind of the files that a glob without a known extension matches."""
    files = files_at(pattern)
    found = [kind for kind in _FILES if any(split_ending(file)[0] in kind.endings for file in files)]
    if not found:
        matched = counted_files([PurePath(file).name for file in files])
        raise JobError(f"no file that {pattern} matches is supported, only {matched} were found: use {_ALLOWED}")
    if len(found) > 1 and found[0] is not TextFilesSource:
        kinds = " and ".join(kind.kind for kind in found)
        raise JobError(f"{pattern} matches {kinds}: use a glob with one extension")
    return found[0]
