"""JSON lines: columns keep their types where all rows agree, and their JSON where they do not."""

from __future__ import annotations

import json
from collections.abc import Iterator, Set
from pathlib import Path
from typing import Any, cast

from batch_llm.errors import JobError
from batch_llm.jobs.files import to_json
from batch_llm.jobs.tables import MAX_ROW_BYTES, name, text

from .base import BrokenRow, Source
from .places import find_files, open_file


class JsonLinesSource(Source):
    """One or several .jsonl or .ndjson files; an object a line."""

    def columns(self, wanted: Set[str]) -> tuple[str, ...]:
        found: dict[str, None] = {}
        empty = True
        for line in self._lines():
            empty = False
            if not isinstance(line, BrokenRow):
                found |= dict.fromkeys(line)
            if found and wanted <= found.keys():
                break
        if empty:
            raise JobError(f"{self.place} is empty: check source")
        return tuple(found)

    def stage(self, rows: Path, limit: int | None) -> list[BrokenRow]:
        broken: list[BrokenRow] = []
        good = 0
        clean = rows.with_suffix(".clean.jsonl")
        with clean.open("w", encoding="utf-8") as file:
            for line in self._lines():
                if isinstance(line, BrokenRow):
                    broken.append(line)
                    continue
                file.write(to_json(line) + "\n")
                good += 1
                if good == limit:
                    break
        if good:
            self._write_typed(clean, rows)
        else:
            self.write_numbered("SELECT NULL::VARCHAR AS id WHERE false", rows, None)
        clean.unlink()
        return broken

    def _write_typed(self, clean: Path, rows: Path) -> None:
        # At depth 1 every column stays JSON: DuckDB would turn text that looks like a date into a date.
        read = (
            f"SELECT * FROM read_json({text(clean)}, format='newline_delimited', maximum_depth=1, sample_size=-1, "
            f"maximum_object_size={MAX_ROW_BYTES})"
        )
        columns = [str(row[0]) for row in self.tables.execute(f"DESCRIBE {read}").fetchall()]
        kinds = ", ".join(f"list(DISTINCT {_kind(column)})" for column in columns)
        found = cast("tuple[list[str | None], ...]", self.tables.execute(f"SELECT {kinds} FROM ({read})").fetchone())
        typed = [_typed(column, set(kinds) - {None}) for column, kinds in zip(columns, found, strict=True)]
        self.write_numbered(f"SELECT {', '.join(typed)} FROM ({read})", rows, None)

    def _lines(self) -> Iterator[dict[str, Any] | BrokenRow]:
        files = find_files(self.tables, self.place)
        for file in files:
            prefix = f"{Path(file).name} " if len(files) > 1 else ""
            with open_file(file) as lines:
                for number, line in enumerate(lines, start=1):
                    if line.strip():
                        yield _parse(line, f"{prefix}line {number}", first=number == 1)


def _parse(line: bytes, place: str, *, first: bool) -> dict[str, Any] | BrokenRow:
    try:
        value = json.loads(line.decode("utf-8-sig" if first else "utf-8"))
    except UnicodeDecodeError as error:
        return BrokenRow(place, f"{place} is not UTF-8, at byte {error.start + 1}")
    except json.JSONDecodeError as error:
        return BrokenRow(place, f"{place} is not JSON: {error.msg.removesuffix(' at')}, at column {error.colno}")
    except RecursionError:
        return BrokenRow(place, f"{place} is nested too deeply")
    if not isinstance(value, dict):
        return BrokenRow(place, f"{place} is no JSON object: write one as {{...}}")
    return cast("dict[str, Any]", value)


def _kind(column: str) -> str:
    """SQL for the type of a value; a whole number is one only where it fits."""
    value = name(column)
    fits = f"CASE WHEN TRY_CAST({value} AS BIGINT) IS NULL THEN 'HUGE' ELSE 'BIGINT' END"
    return f"CASE json_type({value}) WHEN 'NULL' THEN NULL WHEN 'UBIGINT' THEN {fits} ELSE json_type({value}) END"


def _typed(column: str, kinds: Set[str | None]) -> str:
    value = name(column)
    match sorted(kind for kind in kinds if kind):
        case ["VARCHAR"]:
            return f"{value}->>'$' AS {value}"
        case ["BIGINT" | "DOUBLE" | "BOOLEAN" as kind]:
            return f"CAST({value} AS {kind}) AS {value}"
        case _:
            return value
