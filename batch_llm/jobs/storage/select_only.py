"""What a user writes in SQL, parsed by DuckDB itself: one SELECT, or one condition, and nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Set
from dataclasses import dataclass
from typing import Any, cast

import duckdb

from .duckdb_session import one_line

_ONE_SELECT = "must be one SELECT and nothing else: no second statement, COPY, ATTACH, SET or PIVOT"
_SIMPLE = re.compile(r"\w+")
ROW_FUNCTIONS = frozenset({"generate_series", "json_each", "json_tree", "range", "unnest"})
"""Table functions that read nothing but their arguments."""

FILE_FUNCTIONS = frozenset(
    {"parquet_scan", "read_blob", "read_csv", "read_csv_auto", "read_json", "read_json_auto", "read_json_objects",
     "read_json_objects_auto", "read_ndjson", "read_ndjson_auto", "read_ndjson_objects", "read_parquet",
     "read_text"}
)  # fmt: skip
"""Table functions that read the files named in their arguments."""


@dataclass(frozen=True, slots=True)
class SelectStatement:
    """What one SELECT reads.

    Attributes:
        tables: Names of tables, and of files that are written as tables.
        files: Texts among the arguments of table functions that read files.
        functions: Names of its table functions, in lower case.
    """

    tables: tuple[str, ...]
    files: tuple[str, ...]
    functions: frozenset[str]


def parse_select(query: str) -> SelectStatement:
    """Return what a query reads.

    Raises:
        ValueError: It is not one SELECT, or does more than to read rows; the text completes "the query ...".
    """
    return _contents(_parse(query))


def check_single_select(query: str) -> None:
    """Check a query in the dialect of another database, as far as DuckDB can read it; the database checks the rest.

    Raises:
        ValueError: It is more than one statement, or none that reads; the text completes "the query ...".
    """
    with duckdb.connect() as parser:
        try:
            found = parser.extract_statements(query)
        except duckdb.Error:
            return  # the dialects differ
    if [statement.type for statement in found] != [duckdb.StatementType.SELECT]:
        raise ValueError(_ONE_SELECT)


def check_condition(where: str, table: str) -> None:
    """Check that a text is one condition on the rows of a table, which reads nothing but this table.

    Raises:
        ValueError: It is not; the text completes "the condition ...".
    """
    try:
        node = _parse(condition_query(where, table))
    except ValueError as error:
        raise ValueError(str(error).replace("one SELECT", "one condition")) from error
    extra = (node.get("modifiers"), node.get("group_expressions"), node.get("having"), node.get("qualify"))
    if node.get("type") != "SELECT_NODE" or any(extra) or node.get("sample") or not node.get("where_clause"):
        raise ValueError("must be one condition, such as status = 'failed', and nothing else")
    found = _contents(node)
    others = sorted({*found.tables} - {table}) or sorted(found.functions - ROW_FUNCTIONS)
    if others:
        raise ValueError(f"may read the run's items alone (as {table}), not {others[0]}")


def condition_query(where: str, table: str) -> str:
    """Return the SELECT whose condition `check_condition` has checked."""
    return f"SELECT * FROM {table} WHERE (\n{where}\n)"  # the line break ends a trailing comment


def _parse(query: str) -> dict[str, Any]:
    """Return the syntax tree of the only statement of a query, which is a SELECT."""
    with duckdb.connect() as parser:
        try:
            statements = parser.extract_statements(query)
            row = parser.execute("SELECT json_serialize_sql(?::VARCHAR)", [query]).fetchone()
            tree = json.loads(str(row[0]) if row else "{}")
        except duckdb.Error as error:
            raise ValueError(f"cannot be read: {one_line(error)}") from error
        except RecursionError:
            raise ValueError("is nested too deeply") from None
    found = cast("list[dict[str, Any]]", tree.get("statements") or [])
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT or len(found) != 1:
        raise ValueError(_ONE_SELECT)
    return cast("dict[str, Any]", found[0]["node"])


def _contents(node: dict[str, Any]) -> SelectStatement:
    nodes = list(_nodes(node))
    named = {str(entry["key"]) for entry in nodes if "key" in entry and "value" in entry}
    tables: dict[str, None] = {}
    files: dict[str, None] = {}
    functions: set[str] = set()
    for found in nodes:
        match found.get("type"):
            case "BASE_TABLE":
                parts = (found["catalog_name"], found["schema_name"], found["table_name"])
                tables[".".join(part for part in parts if part)] = None
            case "TABLE_FUNCTION":
                functions.add(str(found["function"]["function_name"]).lower())
                files |= dict.fromkeys(_texts(found["function"]))
            case "SHOW_REF":
                raise ValueError("must be one SELECT and nothing else: no DESCRIBE, SHOW or SUMMARIZE")
            case _:
                pass
    # A name with other characters may be that of a file where the query that it names is not in scope.
    own: Set[str] = {name for name in named if _SIMPLE.fullmatch(name)}
    return SelectStatement(tuple(name for name in tables if name not in own), tuple(files), frozenset(functions))


def _nodes(value: Any) -> Iterator[dict[str, Any]]:
    """Yield the objects in a syntax tree, however deep they are."""
    waiting: list[Any] = [value]
    while waiting:
        found: object = waiting.pop()
        if isinstance(found, dict):
            node = cast("dict[str, Any]", found)
            yield node
            waiting.extend(node.values())
        elif isinstance(found, list):
            waiting.extend(cast("list[Any]", found))


def _texts(function: dict[str, Any]) -> Iterator[str]:
    for found in _nodes(function.get("children")):
        value = found.get("value")
        if found.get("type") == "VALUE_CONSTANT" and isinstance(value, dict):
            constant = cast("dict[str, Any]", value).get("value")
            if isinstance(constant, str):
                yield constant
