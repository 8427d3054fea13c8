"""Base class of the sources: list the columns cheaply, and write the rows to one numbered table."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Set
from dataclasses import dataclass
from pathlib import Path

from batch_llm.jobs.storage.duckdb_session import Tables, write_parquet


@dataclass(frozen=True, slots=True)
class BrokenRow:
    """A row that cannot be read; only this row fails.

    Attributes:
        name: Location of the row: "line 17", or the name of a file.
        error: Why the row cannot be read.
    """

    name: str
    error: str


class Source(ABC):
    """Source of a job's rows.

    Attributes:
        tables: The session that reads the rows.
        place: The `source` setting of the job.
        encoding: The `encoding` setting of the job; None to detect the encoding.

    Example:
        >>> source = open_source(tables, "tickets.csv")
        >>> source.columns(frozenset({"subject"}))
        ('id', 'subject', 'body')
        >>> source.stage(Path("rows.parquet"), limit=100)
        [BrokenRow(name='line 17', error='line 17: a quote is not closed')]
    """

    def __init__(self, tables: Tables, place: str, encoding: str | None = None) -> None:
        self.tables = tables
        self.place = place
        self.encoding = encoding

    @abstractmethod
    def columns(self, wanted: Set[str]) -> tuple[str, ...]:
        """Return the names of the columns, reading only as much as needed to find the `wanted` columns.

        Args:
            wanted: Columns that the job uses; a name such as `a.b` or `a[0]` may be inside column `a`.

        Raises:
            JobError: The source cannot be read, or has no rows.
        """

    @abstractmethod
    def stage(self, rows: Path, limit: int | None) -> list[BrokenRow]:
        """Write the rows to a Parquet file, in their order and numbered from 1 in the column `_position`.

        Args:
            rows: The Parquet file to write.
            limit: Number of rows to write; None for all.

        Returns:
            The rows that cannot be read.

        Raises:
            JobError: The source as a whole cannot be read.
        """

    def warnings(self) -> list[str]:
        """Return sentences on what the source leaves out, such as files of other kinds."""
        return []

    def count(self) -> int | None:
        """Return the number of rows, including broken rows; None if all rows must be read to count them."""
        return None

    def size(self) -> int | None:
        """Return the approximate number of bytes to read for all rows; None if it is not known."""
        return None

    def write_numbered(self, query: str, rows: Path, limit: int | None) -> None:
        """Write the rows of a query to the Parquet file `rows`, numbered from 1 in the column `_position`."""
        first = f" LIMIT {limit}" if limit else ""
        numbered = f"SELECT row_number() OVER () AS _position, * FROM ({query}{first})"
        write_parquet(self.tables, numbered, rows)
