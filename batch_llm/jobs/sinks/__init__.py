"""Outputs of a job: files, partitioned folders and database tables.

Queries of a DuckDB session come in; a complete output goes out. To add a kind of output, write a subclass of `Sink` in
a new file here, and add it to `open_sink`. This package imports `storage`.
"""

from __future__ import annotations

from collections.abc import Sequence

from batch_llm.jobs.storage.database_urls import parse_address
from batch_llm.jobs.storage.duckdb_session import Tables, column_types
from batch_llm.jobs.storage.formats import split_ending

from .base import Sink
from .duckdb_file import DuckDBSink
from .files import FileSink, check_writable
from .output_columns import BOOKKEEPING, OutputColumns, added_column_names, output_columns, without_formulas
from .partitioned import FolderSink
from .places import failures_place, partial_place
from .postgresql import PostgresSink
from .sqlite import SqliteSink

__all__ = [
    "BOOKKEEPING",
    "OutputColumns",
    "Sink",
    "added_column_names",
    "cells_without_formulas",
    "check_writable",
    "failures_place",
    "is_typed",
    "open_sink",
    "output_columns",
    "partial_place",
]


def open_sink(output: str, partition_by: Sequence[str] = (), like: str = "", *, escape: bool = False) -> Sink:
    """Return a writer for a job's output.

    Args:
        output: A file, a URL, or a table in a database.
        partition_by: Columns that partition the output into a folder of files.
        like: A file whose mode and owner a new file gets, if it exists.
        escape: Whether values that name folders are escaped, as for a CSV file without formulas.

    Example:
        >>> with open_tables() as tables:
        ...     open_sink("answers.csv").write(tables, ["SELECT 1 AS id, 'yes' AS answer"])
    """
    if partition_by:
        return FolderSink(output, partition_by, escape=escape)
    address = parse_address(output)
    if address is None:
        return FileSink(output, like)
    match address.kind:
        case "sqlite":
            return SqliteSink(address)
        case "duckdb":
            return DuckDBSink(address)
        case "postgresql":
            return PostgresSink(address)


def is_typed(output: str) -> bool:
    """Whether a column of an output may contain values of several types, as in JSON Lines."""
    return not parse_address(output) and split_ending(output)[0] == ".jsonl"


def cells_without_formulas(tables: Tables, output: str, partition_by: Sequence[str], query: str) -> str:
    """Return a query whose text cells are not formulas in a spreadsheet, if the output is a CSV file.

    Args:
        tables: The session.
        output: The output of the job.
        partition_by: Columns that are not changed, because they name folders.
        query: The query to wrap.
    """
    if parse_address(output) or split_ending(output)[0] != ".csv":
        return query
    return f"SELECT {', '.join(without_formulas(column_types(tables, query), partition_by))} FROM ({query})"
