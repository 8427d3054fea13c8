"""Rows that a caller gives instead of a source: kept in the run's folder, where the plan reads them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol, cast

import duckdb

from batch_llm.errors import JobError

from .files import to_json
from .folder import run_folder
from .job import BatchJob
from .tables import one_line, open_tables, write_parquet


class ArrowStream(Protocol):
    """A table that Arrow's C stream interface reads: of pyarrow, polars, pandas, DuckDB, datasets, ...

    https://arrow.apache.org/docs/format/CDataInterface/PyCapsuleInterface.html
    """

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object: ...


Items = Iterable[Mapping[str, Any]] | ArrowStream


def with_items(job: BatchJob, items: Items, run_id: str) -> BatchJob:
    """Return the job with given rows as its source: mappings, taken one by one, or a table, which keeps its types.

    Raises:
        JobError: They are no rows, or cannot be kept.
    """
    folder = run_folder(job, run_id).path
    folder.mkdir(parents=True, exist_ok=True)
    is_table = hasattr(items, "__arrow_c_stream__")
    path = folder / ("source.parquet" if is_table else "source.jsonl")
    if is_table:
        _keep_table(cast("ArrowStream", items), path)
    else:
        _keep_rows(items, path)
    return job.model_copy(update={"source": str(path), "encoding": None})


def _keep_rows(items: object, path: Path) -> None:
    if isinstance(items, str | bytes | Mapping) or not isinstance(items, Iterable):
        kind = type(cast("object", items)).__name__
        raise JobError(f"items is a {kind}: give rows, such as [{{'id': 1, 'text': '...'}}], or a table")
    with path.open("w", encoding="utf-8") as file:
        for number, item in enumerate(cast("Iterable[object]", items), start=1):
            if not isinstance(item, Mapping):
                raise JobError(f"items: number {number} is a {type(item).__name__}, and must map columns to values")
            row = cast("Mapping[object, object]", item)
            file.write(to_json({str(column): value for column, value in row.items()}) + "\n")


def _keep_table(table: ArrowStream, path: Path) -> None:
    with open_tables() as tables:
        try:
            tables.register("items", _known_to_duckdb(table))
            write_parquet(tables, "FROM items", path)
        except duckdb.Error as error:
            raise JobError(f"items cannot be read: {one_line(error)}") from error


def _known_to_duckdb(table: ArrowStream) -> object:
    # DuckDB reads pandas by itself, and asks pyarrow for help with polars, which has what it takes in that interface;
    # pandas has not, without pyarrow.
    return table if type(table).__module__.partition(".")[0] == "pandas" else _Plain(table)


class _Plain:
    """A table of which nothing but its stream is known."""

    def __init__(self, table: ArrowStream) -> None:
        self._table = table

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return self._table.__arrow_c_stream__(requested_schema)
