"""Sources of a job: files, folders, database tables and queries.

The name of a source comes in; a numbered table of its rows goes out. To add a kind of source, write a subclass of
`Source` in a new file here, and add it to `open_source`. This package imports `storage`.
"""

from __future__ import annotations

from batch_llm.errors import JobError
from batch_llm.jobs.storage.database_urls import QUERY, Address, parse_address
from batch_llm.jobs.storage.duckdb_session import Tables
from batch_llm.jobs.storage.formats import split_ending
from batch_llm.jobs.storage.paths import project_folder, resolve

from .base import BrokenRow, Source
from .csv import CsvSource
from .duckdb_file import DuckDBSource
from .duckdb_query import QuerySource
from .file_paths import exists, is_folder
from .jsonl import JsonLinesSource
from .parquet import ParquetSource
from .postgresql import PostgresSource
from .sqlite import SqliteSource
from .text_files import TEXT_ENDINGS, TextFilesSource

__all__ = ["BrokenRow", "Source", "open_source"]

SAMPLES = "samples"
_BY_ENDING: dict[str, type[Source]] = {
    ".jsonl": JsonLinesSource,
    ".ndjson": JsonLinesSource,
    ".csv": CsvSource,
    ".tsv": CsvSource,
    ".parquet": ParquetSource,
    ".pq": ParquetSource,
    **dict.fromkeys(TEXT_ENDINGS, TextFilesSource),
}


def open_source(tables: Tables, source: str, encoding: str | None = None) -> Source:
    """Return a reader for a job's source.

    Args:
        tables: The session that reads the rows.
        source: A file, a glob, a URL, a folder of text files, a database table, or a query.
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
    if address := parse_address(source):
        return _open_database(tables, address)
    return _kind_of(source)(tables, source, encoding)


def _open_database(tables: Tables, address: Address) -> Source:
    match address.kind:
        case "sqlite":
            return SqliteSource(tables, address)
        case "duckdb":
            return DuckDBSource(tables, address)
        case "postgresql":
            return PostgresSource(tables, address)


def _kind_of(source: str) -> type[Source]:
    kind = _BY_ENDING.get(split_ending(source)[0])
    if kind is None and is_folder(source):
        kind = TextFilesSource
    if kind is None:
        raise JobError(
            f"source {source!r} is not supported: use a file ({', '.join(sorted(_BY_ENDING))}), a folder of "
            "text files, a table in a database (sqlite:///file.db#table), or a query that starts with 'select'"
            if "://" in source or exists(source)
            else f"{resolve(source)} does not exist: check source"
        )
    return kind
