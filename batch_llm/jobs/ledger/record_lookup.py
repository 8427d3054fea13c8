"""Lookup of selected records in a ledger of any size, in bounded memory."""

from __future__ import annotations

import shutil
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from batch_llm.jobs.storage.duckdb_session import Tables, execute, file_text, joining_as_written, text
from batch_llm.jobs.storage.permissions import make_folder
from batch_llm.jobs.storage.store import Store

from .record_views import view_records

BATCH_BYTES = 512 * 1024**2
"""Bytes of record files per join, about a million records: the wanted keys are in memory, the answers are streamed."""


@contextmanager
def collected_records(
    tables: Tables, store: Store, files: Mapping[str, int], wanted: str, columns: str, pieces: Path
) -> Generator[str]:
    """Provide SQL that selects the records listed in a table by `fingerprint` and `stamp`.

    Large ledgers are joined in batches: with a single join over millions of records, DuckDB would keep the answers in
    memory, or spill them.

    Args:
        tables: The session.
        store: Folder of the record files.
        files: Record files and their sizes in bytes.
        wanted: Name of the table, or a subquery.
        columns: SQL of the columns to select from `records` and `wanted`.
        pieces: A temporary folder, which is removed at the end.

    Yields:
        The SQL, which is valid while the context is open.
    """
    batches = list(_batches(files))
    with joining_as_written(tables):
        if len(batches) <= 1:
            view_records(tables, store, files, view="batch")
            yield f"SELECT {columns} FROM batch AS records JOIN {wanted} AS wanted USING (fingerprint, stamp)"
            return
        shutil.rmtree(pieces, ignore_errors=True)  # may be left by a killed process
        make_folder(pieces)
        try:
            for number, batch in enumerate(batches):
                piece = pieces / f"{number:05d}.parquet"
                view_records(tables, store, batch, view="batch")
                execute(
                    tables,
                    f"""
                    CREATE OR REPLACE TEMP TABLE wanted_here AS
                    FROM {wanted} SEMI JOIN batch USING (fingerprint, stamp);
                    COPY (
                        SELECT {columns}
                        FROM batch AS records JOIN wanted_here AS wanted USING (fingerprint, stamp)
                    ) TO {text(piece)} (FORMAT parquet)""",
                )
            made = ", ".join(file_text(piece) for piece in sorted(pieces.iterdir()))
            yield f"FROM read_parquet([{made}])"
        finally:
            shutil.rmtree(pieces, ignore_errors=True)


def _batches(files: Mapping[str, int]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for name, more in files.items():
        if batch and size + more > BATCH_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(name)
        size += more
    if batch:
        yield batch
