"""Names of an output's columns, and SQL for their values in flat formats."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from batch_llm.jobs.schemas import answer_columns
from batch_llm.jobs.storage.duckdb_session import is_nested, name, text
from batch_llm.jobs.storage.json_sql import finite_values

BOOKKEEPING = (
    "status",
    "input_tokens",
    "output_tokens",
    "cost_usd",
    "attempts",
    "seconds",
    "error_category",
    "error",
    "finish_reason",
    "call_seconds",
)


@dataclass(frozen=True, slots=True)
class OutputColumns:
    """Names of the columns that a run adds to the input's columns.

    Attributes:
        answer: For each field of the answer, its column and the DuckDB type of the column.
        bookkeeping: Bookkeeping columns and their names in the output; includes `item_id` if the input has none.
        notes: A sentence for each renamed column.
    """

    answer: dict[str, tuple[str, str]]
    bookkeeping: dict[str, str]
    notes: tuple[str, ...]


def output_columns(columns: Iterable[str], schema: dict[str, Any] | None, *, typed: bool = True) -> OutputColumns:
    """Return names for the added columns; a column whose name the input already uses is called `answer_<name>`.

    Args:
        columns: Columns of the input.
        schema: JSON schema of the answer; None for text.
        typed: Whether a column may contain values of several types, as in `answer_columns`.
    """
    taken = {column.lower() for column in columns}
    ours = [column for column in ("item_id", *BOOKKEEPING) if column != "item_id" or column not in taken]
    bookkeeping = _named(ours, taken)
    answer = {field: (_free(field, taken), kind) for field, kind in answer_columns(schema, typed=typed).items()}
    renamed = [*bookkeeping.items(), *((field, column) for field, (column, _) in answer.items())]
    notes = [f"The column {old!r} of the answer is called {new!r}." for old, new in renamed if old != new]
    return OutputColumns(answer, bookkeeping, tuple(notes))


def added_column_names(columns: Iterable[str], ours: Iterable[str]) -> dict[str, str]:
    """Return names for columns to be added to the input's, as `output_columns` does.

    Args:
        columns: Columns of the input.
        ours: Columns to add.
    """
    return _named(ours, {column.lower() for column in columns})


def _named(ours: Iterable[str], taken: set[str]) -> dict[str, str]:
    return {column: _free(column, taken) for column in ours}


def _free(column: str, taken: set[str]) -> str:
    free = column
    while not free or free.lower() in taken:  # databases do not support columns without a name
        free = f"answer_{free}"
    taken.add(free.lower())
    return free


def flat(columns: Mapping[str, str]) -> Iterator[str]:
    """Yield SQL for values that fit into a text cell: nested values become JSON."""
    for column, kind in columns.items():
        value = name(column)
        if kind == "JSON":
            yield f"CASE json_type({value}) WHEN 'VARCHAR' THEN {value}->>'$' ELSE {value}::VARCHAR END AS {value}"
        elif is_nested(kind):
            yield f"to_json({finite_values(value, kind)})::VARCHAR AS {value}"
        else:
            yield value


def for_json(columns: Mapping[str, str]) -> Iterator[str]:
    """Yield SQL for values in a line of JSON; infinity and NaN, which JSON cannot represent, become null."""
    for column, kind in columns.items():
        value = name(column)
        finite = finite_values(value, kind)
        yield value if finite == value else f"{finite} AS {value}"


_FORMULA = r"(?s)^[=+@\t\r\n\x{FF1D}\x{FF0B}\x{FF0D}\x{FF20}-].*"
_NUMBER = r"[+-]?([0-9]+([.,][0-9]+)*|[.][0-9]+)([eE][+-]?[0-9]+)?%?"


def without_formulas(columns: Mapping[str, str], keep: Collection[str] = ()) -> Iterator[str]:
    """Yield SQL for the cells of a CSV file, with an apostrophe before text that a spreadsheet would run as a formula.

    Numbers, and numbers in text, are not changed. See https://owasp.org/www-community/attacks/CSV_Injection

    Args:
        columns: The columns and their DuckDB types.
        keep: Columns that are not changed.
    """
    for (column, kind), cell in zip(columns.items(), flat(columns), strict=True):
        if column in keep or not (kind in ("VARCHAR", "JSON") or is_nested(kind)):
            yield cell
            continue
        value = cell.removesuffix(f" AS {name(column)}")
        header = f"'{column}" if re.match(r"[=+@\t\r\n-]", column) else column
        yield f"{without_formula(value)} AS {name(header)}"


def without_formula(value: str) -> str:
    """Return SQL for a text that a spreadsheet does not run as a formula; see `without_formulas`."""
    formula, number = (f"regexp_full_match({value}, {text(each)})" for each in (_FORMULA, _NUMBER))
    return f"CASE WHEN {formula} AND NOT {number} THEN chr(39) || {value} ELSE {value} END"
