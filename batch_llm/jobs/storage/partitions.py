"""Staged rows in parts that fit into the memory, however large the rows are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .duckdb_session import Tables, file_text

PART_BYTES = 32 * 1024**2
"""What a part may have in it, unless it is a single group of rows; joined and sorted, it takes a multiple of that."""
_END = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Part:
    """Positions from `first` to `last`, both included."""

    first: int
    last: int

    def among(self, table: str, column: str) -> str:
        """SQL for the rows of a table whose position, in `column`, is in the part."""
        return f"(FROM {table} WHERE {column} BETWEEN {self.first} AND {self.last})"


def parts_of(tables: Tables, rows: Path) -> Iterator[Part]:
    """Divide the positions of staged rows; the last part has no end, for broken rows come after the good ones."""
    groups = tables.execute(f"""
        SELECT any_value(row_group_num_rows), sum(total_uncompressed_size)
        FROM parquet_metadata({file_text(rows)}) GROUP BY row_group_id ORDER BY row_group_id""").fetchall()
    first, position, size = 1, 1, 0
    for count, weight in groups:
        if size and size + weight > PART_BYTES:
            yield Part(first, position - 1)
            first, size = position, 0
        position += count
        size += weight
    yield Part(first, _END)
