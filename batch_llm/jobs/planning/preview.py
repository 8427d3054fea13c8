"""Preview of a job's first prompt, without a call."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import duckdb

from batch_llm.errors import JobError
from batch_llm.jobs.job import BatchJob
from batch_llm.jobs.sources import Source, open_source
from batch_llm.jobs.storage.duckdb_session import Tables, file_text, job_error, open_tables
from batch_llm.jobs.storage.scratch import temporary_folder

from .items import Item, make_items

_BYTES_TO_COUNT = 20_000_000
"""Maximum size of files that are read completely to count their rows."""


@dataclass(frozen=True, slots=True)
class Preview:
    """The first item of a job.

    Attributes:
        item: First item that can be sent; if none can, the first item with its error.
        items: Number of items; None if counting them would take long.
    """

    item: Item
    items: int | None


def preview(job: BatchJob) -> Preview:
    """Return the first item of a job with its prompt, without a call and without using the ledger.

    Raises:
        JobError: The source cannot be read, has no rows, or has no column that the prompt uses.
    """
    with open_tables() as tables, temporary_folder() as folder:
        try:
            return _preview(tables, job, folder / "rows.parquet")
        except duckdb.Error as error:
            raise job_error(f"source {job.source!r}", error) from error


def count_rows(job: BatchJob) -> int:
    """Return the number of rows of a job's source, at most the job's limit; reads the whole source.

    Raises:
        JobError: The source cannot be read.
    """
    with open_tables() as tables:
        return count_rows_of(job, open_source(tables, job.source, job.encoding), job.limit)


def count_rows_of(job: BatchJob, source: Source, limit: int | None) -> int:
    """Return the number of rows of an opened source, at most `limit`; reads the source up to there.

    Raises:
        JobError: The source cannot be read.
    """
    with temporary_folder() as folder:
        rows = folder / "rows.parquet"
        try:
            source.stage(rows, limit)
            found = source.tables.execute(f"SELECT count(*) FROM {file_text(rows)}").fetchone()
        except duckdb.Error as error:
            raise job_error(f"source {job.source!r}", error) from error
    return int(found[0]) if found else 0


def _preview(tables: Tables, job: BatchJob, rows: Path) -> Preview:
    source = open_source(tables, job.source, job.encoding)
    counts = _is_small(source)
    broken = source.stage(rows, job.limit if counts else 1)
    made = make_items(tables, job, rows, broken, strategy="")
    items = list(made if counts else islice(made, 1))
    if not items:
        raise JobError(f"source {job.source!r} has no rows")
    first = next((item for item in items if item.error is None), items[0])
    return Preview(first, len(items) if counts else _count(source, job.limit))


def _is_small(source: Source) -> bool:
    size = source.size()
    return size is not None and size <= _BYTES_TO_COUNT


def _count(source: Source, limit: int | None) -> int | None:
    rows = source.count()
    return rows if rows is None or limit is None else min(rows, limit)
