"""Ranges of positions of the staged rows that fit into memory, however large the rows are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .duckdb_session import Tables, file_text

RANGE_BYTES = 32 * 1024**2
"""Largest size of a range with more than one row group; joins and sorts need a multiple of this in memory."""
_END = 2**63 - 1


@dataclass(frozen=True, slots=True)
class PositionRange:
    """A range of positions, from `first` to `last`, both included."""

    first: int
    last: int

    def among(self, table: str, column: str) -> str:
        """Return SQL for the rows of a table whose position, in `column`, is in this range."""
        return f"(FROM {table} WHERE {column} BETWEEN {self.first} AND {self.last})"


def position_ranges(tables: Tables, rows: Path) -> Iterator[PositionRange]:
    """Divide the positions of the staged rows into ranges.

    The last range has no upper end, because broken rows come after all others.

    Args:
        tables: The session.
        rows: The Parquet file of the staged rows.
    """
    groups = tables.execute(f"""
        SELECT any_value(row_group_num_rows), sum(total_uncompressed_size)
        FROM parquet_metadata({file_text(rows)}) GROUP BY row_group_id ORDER BY row_group_id""").fetchall()
    first, position, size = 1, 1, 0
    for count, weight in groups:
        if size and size + weight > RANGE_BYTES:
            yield PositionRange(first, position - 1)
            first, size = position, 0
        position += count
        size += weight
    yield PositionRange(first, _END)
