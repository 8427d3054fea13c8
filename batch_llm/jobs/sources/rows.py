"""Rows that pass through Python: columns keep their types where all rows agree, and their JSON where they do not."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Set
from pathlib import Path
from typing import Any, cast

from batch_llm.errors import JobError
from batch_llm.jobs.files import to_json
from batch_llm.jobs.tables import Tables, column_types, name, text

from .base import BrokenRow, Source

_LEAST_BUFFER = 1024 * 1024


class RowSource(Source):
    """A source that yields its rows one by one."""

    @abstractmethod
    def rows(self) -> Iterator[Mapping[str, Any] | BrokenRow]:
        """Yield the rows, in their order."""

    def columns(self, wanted: Set[str]) -> tuple[str, ...]:
        found: dict[str, None] = {}
        empty = True
        for row in self.rows():
            empty = False
            if not isinstance(row, BrokenRow):
                found |= dict.fromkeys(row)
            if found and wanted <= found.keys():
                break
        if empty:
            raise JobError(f"{self.place} is empty: check source")
        return tuple(found)

    def stage(self, rows: Path, limit: int | None) -> list[BrokenRow]:
        broken: list[BrokenRow] = []
        good = longest = 0
        lines = rows.with_suffix(".jsonl")
        with lines.open("wb") as file:
            for row in self.rows():
                if isinstance(row, BrokenRow):
                    broken.append(row)
                    continue
                longest = max(longest, file.write(to_json(row).encode() + b"\n"))
                good += 1
                if good == limit:
                    break
        query = _typed_query(self.tables, lines, longest) if good else "SELECT NULL::VARCHAR AS id WHERE false"
        self.write_numbered(query, rows, None)
        lines.unlink()
        return broken


def _typed_query(tables: Tables, lines: Path, longest: int) -> str:
    # At depth 1 every column stays JSON: DuckDB would turn text that looks like a date into a date. It sets aside
    # twice the size of the longest line for each thread.
    read = (
        f"SELECT * FROM read_json({text(lines)}, format='newline_delimited', maximum_depth=1, sample_size=-1, "
        f"maximum_object_size={max(2 * longest, _LEAST_BUFFER)})"
    )
    columns = list(column_types(tables, read))
    asked = ", ".join(f"list(DISTINCT {_kind(column)})" for column in columns)
    found = cast("tuple[list[str | None], ...]", tables.execute(f"SELECT {asked} FROM ({read})").fetchone())
    typed = [_typed(column, kinds) for column, kinds in zip(columns, found, strict=True)]
    return f"SELECT {', '.join(typed)} FROM ({read})"


def _kind(column: str) -> str:
    """SQL for the type of a value; a whole number is one only where it fits."""
    value = name(column)
    fits = f"CASE WHEN TRY_CAST({value} AS BIGINT) IS NULL THEN 'HUGE' ELSE 'BIGINT' END"
    return f"CASE json_type({value}) WHEN 'NULL' THEN NULL WHEN 'UBIGINT' THEN {fits} ELSE json_type({value}) END"


def _typed(column: str, kinds: Iterable[str | None]) -> str:
    value = name(column)
    match sorted(kind for kind in kinds if kind):
        case ["VARCHAR"]:
            return f"{value}->>'$' AS {value}"
        case ["BIGINT" | "DOUBLE" | "BOOLEAN" as kind]:
            return f"CAST({value} AS {kind}) AS {value}"
        case _:
            return value
