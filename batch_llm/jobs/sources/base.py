"""What every source does: tell its columns cheaply, and put its rows into one numbered table."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Set
from dataclasses import dataclass
from pathlib import Path

from batch_llm.jobs.storage.duckdb_session import Tables, write_parquet


@dataclass(frozen=True, slots=True)
class BrokenRow:
    """A row that cannot be read; it fails by itself.

    Attributes:
        name: Where it is: "line 17", or a file's name.
        error: What is wrong with it.
    """

    name: str
    error: str


class Source(ABC):
    """Where the rows of a job come from.

    Attributes:
        tables: The session that reads them.
        place: What the job says as its source.
        encoding: What the job says of the encoding of text files.
    """

    def __init__(self, tables: Tables, place: str, encoding: str | None = None) -> None:
        self.tables = tables
        self.place = place
        self.encoding = encoding

    @abstractmethod
    def columns(self, wanted: Set[str]) -> tuple[str, ...]:
        """Return the columns, reading no more than it takes to find the `wanted` ones.

        Raises:
            JobError: The source cannot be read, or has no rows.
        """

    @abstractmethod
    def stage(self, rows: Path, limit: int | None) -> list[BrokenRow]:
        """Write the rows, in their order and numbered from 1 in `_position`, to a Parquet file.

        Returns:
            The rows that cannot be read.

        Raises:
            JobError: The source as a whole cannot be read.
        """

    def write_numbered(self, query: str, rows: Path, limit: int | None) -> None:
        """Write the rows of a query to `rows`, numbered."""
        first = f" LIMIT {limit}" if limit else ""
        numbered = f"SELECT row_number() OVER () AS _position, * FROM ({query}{first})"
        write_parquet(self.tables, numbered, rows)
