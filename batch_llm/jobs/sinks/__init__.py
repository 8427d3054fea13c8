"""Outputs of a job: files, partitioned folders and database tables.

An `OutputPlace` and queries of a DuckDB session come in; a complete output goes out. To add a kind of output, write a
subclass of `Sink` in a new file here, and add it to `open_sink`. This package imports `storage`.
"""

from __future__ import annotations

from batch_llm.jobs.storage.duckdb_session import Tables, column_types

from .base import Sink
from .duckdb_file import DuckDBSink
from .files import FileSink, check_writable
from .output_columns import BOOKKEEPING, OutputColumns, added_column_names, output_columns, without_formulas
from .output_place import OutputPlace
from .partitioned import FolderSink
from .postgresql import PostgresSink
from .sqlite import SqliteSink

__all__ = [
    "BOOKKEEPING",
    "OutputColumns",
    "OutputPlace",
    "Sink",
    "added_column_names",
    "cells_without_formulas",
    "check_writable",
    "open_sink",
    "output_columns",
]


def open_sink(output: OutputPlace, *, escape: bool = False) -> Sink:
    """Return a writer for an output.

    Args:
        output: The place of the output.
        escape: Whether values that name folders are escaped, as for a CSV file without formulas.

    Example:
        >>> with open_tables() as tables:
        ...     open_sink(OutputPlace.parse("answers.csv")).write(tables, ["SELECT 1 AS id, 'yes' AS answer"])
    """
    if output.partition_by:
        return FolderSink(output, escape=escape)
    if output.table is None:
        return FileSink(output)
    match output.table.kind:
        case "sqlite":
            return SqliteSink(output.table)
        case "duckdb":
            return DuckDBSink(output.table)
        case "postgresql":
            return PostgresSink(output.table)


def cells_without_formulas(tables: Tables, output: OutputPlace, query: str) -> str:
    """Return a query whose text cells are not formulas in a spreadsheet, if the output is a CSV file.

    Args:
        tables: The session.
        output: The output; columns that partition it are not changed, because they name folders.
        query: The query to wrap.
    """
    if not output.is_csv:
        return query
    return f"SELECT {', '.join(without_formulas(column_types(tables, query), output.partition_by))} FROM ({query})"
