"""What a job would send first: for a look before anything is paid for."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import duckdb

from batch_llm.errors import JobError
from batch_llm.jobs.job import BatchJob
from batch_llm.jobs.sources import SAMPLES, open_source
from batch_llm.jobs.storage.duckdb_session import Tables, file_text, job_error, open_tables
from batch_llm.jobs.storage.paths import resolve

from .items import Item, make_items

_BYTES_TO_COUNT = 20_000_000
"""A file of at most so many bytes is read as a whole, which takes a moment."""


@dataclass(frozen=True, slots=True)
class Preview:
    """The first item of a job.

    Attributes:
        item: The first one that can be sent; where none can, the first one, with its error.
        items: How many there are; None where it takes long to count them.
    """

    item: Item
    items: int | None


def preview(job: BatchJob) -> Preview:
    """Render the first prompt of a job, without a call and without its ledger.

    Raises:
        JobError: The source cannot be read, has no rows, or lacks a column that the prompt names.
    """
    with open_tables() as tables, tempfile.TemporaryDirectory(prefix="batch-llm-") as folder:
        try:
            return _preview(tables, job, Path(folder) / "rows.parquet")
        except duckdb.Error as error:
            raise job_error(f"source {job.source!r}", error) from error


def count_rows(job: BatchJob) -> int:
    """Read a job's source as a whole and return how many rows it has, at most the job's limit.

    Raises:
        JobError: The source cannot be read.
    """
    with open_tables() as tables, tempfile.TemporaryDirectory(prefix="batch-llm-") as folder:
        rows = Path(folder) / "rows.parquet"
        try:
            open_source(tables, job.source, job.encoding).stage(rows, job.limit)
            found = tables.execute(f"SELECT count(*) FROM {file_text(rows)}").fetchone()
        except duckdb.Error as error:
            raise job_error(f"source {job.source!r}", error) from error
    return int(found[0]) if found else 0


def _preview(tables: Tables, job: BatchJob, rows: Path) -> Preview:
    counts = _is_small(job.source)
    broken = open_source(tables, job.source, job.encoding).stage(rows, job.limit if counts else 1)
    items = list(make_items(tables, job, rows, broken, strategy=""))[: job.limit]
    if not items:
        raise JobError(f"source {job.source!r} has no rows")
    first = next((item for item in items if item.error is None), items[0])
    return Preview(first, len(items) if counts else None)


def _is_small(source: str) -> bool:
    if source == SAMPLES:
        return True
    try:
        path = resolve(source)
        return path.is_file() and path.stat().st_size <= _BYTES_TO_COUNT
    except OSError:  # a query is longer than a name may be
        return False
