"""Parquet sources; columns keep their types."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Set
from pathlib import Path

import duckdb

from batch_llm.errors import JobError
from batch_llm.jobs.storage.duckdb_session import column_types, job_error, literal, session_folder, text

from .base import BrokenRow
from .file_paths import is_taken_for_glob, open_file, readable_name
from .file_selection import FilesSource


class ParquetSource(FilesSource):
    """Rows of one or several .parquet files; a column that a file does not have is null in its rows."""

    endings = frozenset({".parquet", ".pq"})
    kind = "Parquet files"

    def columns(self, wanted: Set[str]) -> tuple[str, ...]:
        """Return the names of the columns; see `Source.columns`."""
        try:
            columns = tuple(column_types(self.tables, self._query()))
            if not self.count():
                raise JobError(f"{self.place} has no rows: check source")
        except duckdb.Error as error:
            raise job_error(self.place, error) from error
        return columns

    def stage(self, rows: Path, limit: int | None) -> list[BrokenRow]:
        """Write the rows to a numbered Parquet file; see `Source.stage`."""
        self.write_numbered(self._query(), rows, limit)
        return []

    def count(self) -> int:
        """Return the number of rows, which the files' metadata has; see `Source.count`."""
        (rows,) = self.tables.execute(f"SELECT count(*) FROM ({self._query()})").fetchone() or (0,)
        return int(rows)

    def _query(self) -> str:
        files = ", ".join(text(self._name(file)) for file in self.files)
        return f"SELECT * FROM read_parquet([{files}], union_by_name=true)"

    def _name(self, file: str) -> str:
        if not is_taken_for_glob(file):
            return readable_name(file)
        copy = session_folder(self.tables) / f"{hashlib.sha256(file.encode()).hexdigest()[:32]}.parquet"
        if not copy.exists():
            with open_file(file) as opened, copy.open("wb") as copied:
                shutil.copyfileobj(opened, copied)
        return literal(copy)
