"""Rows that a caller passes instead of a source: written to the run's folder, where the plan reads them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol, cast

import duckdb

from batch_llm.errors import JobError
from batch_llm.jobs.job import BatchJob
from batch_llm.jobs.ledger.run_folder import prepare_ledger, run_folder
from batch_llm.jobs.storage.duckdb_session import name, one_line, open_tables, write_parquet
from batch_llm.jobs.storage.json_files import to_json
from batch_llm.jobs.storage.permissions import make_folder, restrict_file


class ArrowStream(Protocol):
    """A table with Arrow's C stream interface: of pyarrow, polars, pandas, DuckDB, datasets, ...

    https://arrow.apache.org/docs/format/CDataInterface/PyCapsuleInterface.html
    """

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object: ...


Items = Iterable[Mapping[str, Any]] | ArrowStream


def with_items(job: BatchJob, items: Items, run_id: str) -> BatchJob:
    """Return the job with the passed rows as its source.

    Args:
        job: The job.
        items: Mappings from column to value, consumed one by one, or a table, which keeps its column types.
        run_id: Id of the run, in whose folder the rows are written.

    Raises:
        JobError: The items are not rows, or cannot be written.

    Example:
        >>> with_items(job, [{"id": 1, "text": "Hello"}], run_id="first")  # doctest: +SKIP
    """
    run = run_folder(job, run_id)
    folder = run.path
    prepare_ledger(job, run.runs)
    make_folder(folder)
    is_table = hasattr(items, "__arrow_c_stream__")
    path = folder / ("source.parquet" if is_table else "source.jsonl")
    if is_table:
        _write_table(cast("ArrowStream", items), path)
    else:
        _write_rows(items, path)
    restrict_file(path)
    return job.model_copy(update={"source": str(path), "encoding": None})


def _write_rows(items: object, path: Path) -> None:
    if isinstance(items, str | bytes | Mapping) or not isinstance(items, Iterable):
        kind = type(cast("object", items)).__name__
        raise JobError(f"items is a {kind}: pass rows, such as [{{'id': 1, 'text': '...'}}], or a table")
    with path.open("w", encoding="utf-8") as file:
        for number, item in enumerate(cast("Iterable[object]", items), start=1):
            if not isinstance(item, Mapping):
                raise JobError(f"items: number {number} is a {type(item).__name__}; it must map columns to values")
            row = cast("Mapping[object, object]", item)
            file.write(to_json({str(column): value for column, value in row.items()}) + "\n")


def _write_table(table: ArrowStream, path: Path) -> None:
    with open_tables() as tables:
        try:
            known, as_json = _known_to_duckdb(table)
            tables.register("items", known)
            replaced = ", ".join(f"CAST({name(column)} AS JSON) AS {name(column)}" for column in as_json)
            write_parquet(tables, f"SELECT *{f' REPLACE ({replaced})' if replaced else ''} FROM items", path)
        except duckdb.Error as error:
            raise JobError(f"items cannot be read: {one_line(error)}") from error


def _known_to_duckdb(table: ArrowStream) -> tuple[object, list[str]]:
    """Return a table in a form that DuckDB reads, and the names of columns with JSON as text."""
    # DuckDB reads pandas itself. It would need pyarrow for polars, but polars implements the stream interface without
    # pyarrow; pandas does not.
    if type(table).__module__.partition(".")[0] != "pandas":
        return _Plain(table), []
    frame: Any = table
    # DuckDB infers one type for a column of objects, and converts values of other shapes or types to text.
    mixed = [at for at, kind in enumerate(frame.dtypes) if str(kind) == "object" and _is_mixed(frame.iloc[:, at])]
    if not mixed:
        return frame, []
    frame = frame.copy(deep=False)
    for at in mixed:
        values = [None if _is_missing(value) else to_json(value) for value in frame.iloc[:, at]]
        frame.isetitem(at, frame.iloc[:, at].__class__(values, index=frame.index, dtype=object))
    return frame, [str(frame.columns[at]) for at in mixed]


def _is_mixed(values: Iterable[object]) -> bool:
    """Return whether a column contains objects or lists of different shapes."""
    shapes = {_shape(value) for value in values if not _is_missing(value)}
    return len(shapes) > 1 and any(shape[0] in ("object", "list") for shape in shapes)


def _shape(value: object) -> tuple[Any, ...]:
    if isinstance(value, Mapping):
        fields = cast("Mapping[object, object]", value).items()
        return ("object", *sorted((str(key), repr(_shape(item))) for key, item in fields))
    if isinstance(value, list | tuple):
        found = {repr(_shape(item)) for item in cast("Iterable[object]", value)}
        return ("list", *sorted(found)) if found else ("list",)
    return (type(value).__name__,)


def _is_missing(value: object) -> bool:
    """Return whether a value is one of pandas' missing values."""
    return (
        value is None or type(value).__name__ in ("NAType", "NaTType") or (isinstance(value, float) and value != value)
    )


class _Plain:
    """A table that only exposes its Arrow stream."""

    def __init__(self, table: ArrowStream) -> None:
        self._table = table

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return self._table.__arrow_c_stream__(requested_schema)
