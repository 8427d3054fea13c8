"""What a job can write: a new kind of output is a new file here and a line in `open_sink`."""

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
    """Return what writes a job's output; a new file gets the mode of the one at `like`, where there is one."""
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
    """Whether a column of an output may hold values of several types, as JSON lines do."""
    return not parse_address(output) and split_ending(output)[0] == ".jsonl"


def cells_without_formulas(tables: Tables, output: str, partition_by: Sequence[str], query: str) -> str:
    """Return the rows of a query, in a CSV file without formulas; columns that name folders stay as they are."""
    if parse_address(output) or split_ending(output)[0] != ".csv":
        return query
    return f"SELECT {', '.join(without_formulas(column_types(tables, query), partition_by))} FROM ({query})"
