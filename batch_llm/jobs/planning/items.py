"""Conversion of rows to items: each row gets an id, a prompt and a key, or the reason why it cannot be sent."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from itertools import islice
from pathlib import Path
from typing import IO, Any

from batch_llm.errors import JobError
from batch_llm.jobs.job import BatchJob
from batch_llm.jobs.ledger.record_views import ID_FINGERPRINT
from batch_llm.jobs.ledger.records import INVALID_INPUT
from batch_llm.jobs.prompts import BoundPrompt, Prompt
from batch_llm.jobs.sources import BrokenRow
from batch_llm.jobs.storage.duckdb_session import (
    Tables,
    column_types,
    execute,
    file_text,
    is_json,
    json_lines,
    name,
    plain,
    rows_of,
    text,
)
from batch_llm.jobs.storage.json_files import to_json
from batch_llm.jobs.storage.position_ranges import position_ranges

from .answer_keys import AnswerKeys

FAILURE_COLUMNS = ("item_id", "error_category", "error", "attempts")
"""Columns that a failures file adds to the input's columns; they are ignored when the file is used as a source."""

_DERIVED_ID_DIGITS = 12
_ITEM_COLUMNS = {
    "position": "BIGINT",
    "id": "VARCHAR",
    "key": "VARCHAR",
    "error": "VARCHAR",
    "characters": "BIGINT",
    "starts": "BIGINT",
    "ends": "BIGINT",
}


@dataclass(frozen=True, slots=True)
class Item:
    """One row to be called, with a `prompt`, or with an `error` if it cannot be sent."""

    position: int
    id: str
    key: str
    prompt: str | None
    error: str | None


def input_columns(columns: Mapping[str, str]) -> dict[str, str]:
    """Return the columns of the input and their types, without columns that batch-llm added."""
    hidden = {"_position"}
    if columns.keys() >= set(FAILURE_COLUMNS):
        hidden |= set(FAILURE_COLUMNS) - {"item_id"}
    return {column: kind for column, kind in columns.items() if column not in hidden}


def staged_columns(tables: Tables, rows: Path) -> dict[str, str]:
    """Return the columns of the input in a staged source and their types."""
    return input_columns(column_types(tables, f"SELECT * FROM {file_text(rows)}"))


def id_column(job: BatchJob, columns: Iterable[str]) -> str | None:
    """Return the column with the ids of the rows; None if ids are derived from the rows' content.

    Raises:
        JobError: The job's id_column does not exist.
    """
    known = list(columns)
    if job.id_column is not None and job.id_column not in known:
        raise JobError(f"id_column is {job.id_column!r}, which is not in the source: it has {', '.join(known)}")
    return job.id_column or next((column for column in ("item_id", "id") if column in known), None)


def make_items(tables: Tables, job: BatchJob, rows: Path, broken: Iterable[BrokenRow], strategy: str) -> Iterator[Item]:
    """Yield the items of a staged source in order, then its broken rows, at most as many as the job's limit.

    Raises:
        JobError: A column that the job uses is missing, or a field in the prompt is in no row.
    """
    staged = column_types(tables, f"SELECT * FROM {file_text(rows)}")
    columns = input_columns(staged)
    prompt, keys = Prompt(job.prompt).bind(columns), AnswerKeys(job, strategy)
    ids = id_column(job, columns)
    needed = [column for column in columns if ids is None or column in (prompt.columns | {ids})]
    make_row = _row_maker({column: columns[column] for column in needed})
    ids_are_numbers = ids is not None and _is_number_as_text(columns[ids])
    position = count = 0
    for part in position_ranges(tables, rows):
        for number, error, *values in rows_of(tables, _query(part.among(file_text(rows), "_position"), staged, needed)):
            position, row, count = number, make_row(values), count + 1
            item_id = _content_id(row) if ids is None else _named_id(row[ids], is_number=ids_are_numbers)
            yield _item(position, row, ids, item_id, prompt, keys, None if error is None else str(error))
    prompt.check_found()
    room = None if job.limit is None else max(0, job.limit - count)
    for after, row in enumerate(islice(broken, room), start=1):
        yield Item(position + after, row.name, "", None, row.error)


def write_items(tables: Tables, items: Iterable[Item], table: Path, prompts: Path) -> tuple[int, int]:
    """Write items to a table and their prompts to a file; return the number of items and the number with an error.

    Prompts may be long and most queries do not need them, so they are in a separate file: one JSON string per line. The
    table contains the number of `characters` of a prompt and the offsets at which it `starts` and `ends` in the file.
    """
    total = broken = longest = place = 0
    lines = table.with_suffix(".jsonl")
    with lines.open("wb") as rows, prompts.open("wb") as texts:
        for item in items:
            row: dict[str, Any] = {"position": item.position, "id": item.id, "key": item.key, "error": item.error}
            if item.prompt is not None:
                ends = place + texts.write(to_json(item.prompt).encode())
                row |= {"characters": len(item.prompt), "starts": place, "ends": ends}
                place = ends + texts.write(b"\n")
            longest = max(longest, rows.write(to_json(row).encode() + b"\n"))
            total += 1
            broken += item.error is not None
    execute(tables, f"COPY ({json_lines(lines, _ITEM_COLUMNS, longest)}) TO {text(table)} (FORMAT parquet)")
    lines.unlink()
    return total, broken


def read_prompt(prompts: IO[bytes], starts: int, ends: int) -> bytes:
    """Return a prompt as JSON from the file of prompts."""
    prompts.seek(starts)
    return prompts.read(ends - starts)


def number_repeats(tables: Tables, items: Path) -> None:
    """Make ids of rows with the same content unique: the second row `3f2a...` becomes `3f2a...-2`."""
    if not repeated_ids(tables, items):
        return
    numbered = items.with_suffix(".numbered")
    execute(
        tables,
        f"""
        COPY (
            SELECT * EXCLUDE nth REPLACE (CASE WHEN nth > 1 THEN id || '-' || nth ELSE id END AS id)
            FROM {file_text(items)} JOIN (
                SELECT position, row_number() OVER (PARTITION BY {ID_FINGERPRINT} ORDER BY position) AS nth
                FROM {file_text(items)}
            ) USING (position) ORDER BY position
        ) TO {text(numbered)} (FORMAT parquet)""",
    )
    numbered.replace(items)


def repeated_ids(tables: Tables, items: Path) -> list[tuple[str, int]]:
    """Return up to five ids that several rows share, with the number of rows."""
    query = f"""
        SELECT id, rows FROM {file_text(items)} JOIN (
            SELECT min(position) AS position, count(*) AS rows FROM {file_text(items)} WHERE error IS NULL
            GROUP BY {ID_FINGERPRINT} HAVING rows > 1 ORDER BY 1 LIMIT 5
        ) USING (position) ORDER BY position"""
    return [(item_id, count) for item_id, count in rows_of(tables, query)]


def _query(rows: str, staged: Mapping[str, str], needed: Iterable[str]) -> str:
    known_broken = staged.keys() >= set(FAILURE_COLUMNS)
    # A column with only nulls has the type JSON in a staged JSON lines file.
    category, why = "CAST(error_category AS VARCHAR)", "CAST(error AS VARCHAR)"
    error = f"CASE WHEN {category} = {text(INVALID_INPUT)} THEN {why} END" if known_broken else "NULL"
    values = [f"{plain(column, staged[column])} AS {name(column)}" for column in needed]
    return f"SELECT _position, {', '.join([error, *values])} FROM {rows} ORDER BY _position"


def _row_maker(columns: Mapping[str, str]) -> Callable[[list[Any]], dict[str, Any]]:
    as_json = [is_json(kind) for kind in columns.values()]

    def make(values: list[Any]) -> dict[str, Any]:
        return {
            column: json.loads(value) if parse and value is not None else value
            for column, parse, value in zip(columns, as_json, values, strict=True)
        }

    return make


def _item(
    position: int,
    row: dict[str, Any],
    ids: str | None,
    item_id: str | None,
    prompt: BoundPrompt,
    keys: AnswerKeys,
    error: str | None,
) -> Item:
    if item_id is None:
        return Item(position, f"row {position}", "", None, f"row {position} has no value in the id column {ids!r}")
    if error is not None:
        return Item(position, item_id, "", None, error)
    try:
        rendered = prompt.render(row)
    except ValueError as why:
        return Item(position, item_id, "", None, str(why))
    if not rendered.strip():
        return Item(position, item_id, "", None, f"the prompt of {item_id} is empty")
    return Item(position, item_id, keys.key(rendered), rendered, None)


def _named_id(value: Any, *, is_number: bool = False) -> str | None:
    """Return a row's id as text; None if it is null, blank or not a finite number.

    An integer has the same id in every numeric type: 1, 1.0 and 1.00 are "1". Text is not changed.
    """
    number = _number(value) if is_number or isinstance(value, float) else None
    if number is not None:
        if not number.is_finite():
            return None
        if number == number.to_integral_value():
            return str(int(number))
    item_id = "" if value is None else value if isinstance(value, str) else to_json(value)
    return item_id if item_id.strip() else None


def _number(value: Any) -> Decimal | None:
    try:
        return None if value is None else Decimal(value)
    except InvalidOperation:
        return None


def _is_number_as_text(kind: str) -> bool:
    """Return whether numbers of a DuckDB type are read as text."""
    return kind == "FLOAT" or kind.startswith("DECIMAL")


def other_spellings(kind: str) -> list[str]:
    """Return SQL expressions for other ids that a row may have in the ledger, computed from its `id`, or null.

    A column of integers with a gap is read as floats, so 1 becomes 1.0. In text files the id still depends on this, and
    earlier versions used 1.0 as the id for every source.

    Args:
        kind: DuckDB type of the id column.
    """
    whole, double = "regexp_full_match(id, '-?[0-9]{1,300}')", "TRY_CAST(id AS DOUBLE)"
    as_float = f"CASE WHEN {whole} AND TRY_CAST({double} AS HUGEINT)::VARCHAR = id THEN {double}::VARCHAR END"
    if scale := re.fullmatch(r"DECIMAL\(\d+,\s*([1-9]\d*)\)", kind):
        return [as_float, f"CASE WHEN {whole} THEN id || '.{'0' * int(scale[1])}' END"]
    if kind == "VARCHAR":
        return [as_float, "CASE WHEN regexp_full_match(id, '-?[0-9]+[.]0+') THEN regexp_replace(id, '[.]0+$', '') END"]
    return [as_float]


def _content_id(row: dict[str, Any]) -> str:
    return hashlib.sha256(to_json(row).encode()).hexdigest()[:_DERIVED_ID_DIGITS]
