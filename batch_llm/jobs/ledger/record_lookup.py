"""The records that a table names, out of a ledger of any size."""

from __future__ import annotations

import shutil
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from batch_llm.jobs.storage.access import make_folder
from batch_llm.jobs.storage.duckdb_session import Tables, execute, file_text, joining_as_written, text
from batch_llm.jobs.storage.store import Store

from .records import view_records

BATCH_BYTES = 512 * 1024**2
"""About a million records at once: what is wanted of them is held, and their answers pass by."""


@contextmanager
def gathered(
    tables: Tables, store: Store, files: Mapping[str, int], wanted: str, columns: str, pieces: Path
) -> Generator[str]:
    """Yield SQL for the records that a table names by `fingerprint` and `stamp`; valid in this context.

    Joined to millions, the answers would have to be spilled, or would be what is held.

    Args:
        tables: The session.
        store: Where the records are.
        files: Their files, and how many bytes each has.
        wanted: The table.
        columns: SQL for what is to be had of `records` and `wanted`.
        pieces: A folder to work in, which is gone at the end.
    """
    batches = list(_batches(files))
    with joining_as_written(tables):
        if len(batches) <= 1:
            view_records(tables, store, files, view="batch")
            yield f"SELECT {columns} FROM batch AS records JOIN {wanted} AS wanted USING (fingerprint, stamp)"
            return
        shutil.rmtree(pieces, ignore_errors=True)  # of a process that was killed
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
