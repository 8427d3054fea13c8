"""Checks of user-written SQL with DuckDB's own parser: a single SELECT, or a single condition."""

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
"""Table functions that read only their arguments."""

SESSION_FUNCTIONS = frozenset({"current_query", "current_setting", "getenv", "getvariable", "write_log"})
"""Other functions that read or write something that is not in the rows, such as paths in the settings."""

FILE_FUNCTIONS = frozenset(
    {"parquet_scan", "read_blob", "read_csv", "read_csv_auto", "read_json", "read_json_auto", "read_json_objects",
     "read_json_objects_auto", "read_ndjson", "read_ndjson_auto", "read_ndjson_objects", "read_parquet",
     "read_text"}
)  # fmt: skip
"""Table functions that read the files named in their arguments."""


@dataclass(frozen=True, slots=True)
class SelectStatement:
    """Tables, files and functions that a SELECT reads.

    Attributes:
        tables: Names of tables, and of files that are written as tables.
        files: String arguments of table functions.
        functions: Names of the table functions, in lower case.
        scalars: Names of the other functions, in lower case.
    """

    tables: tuple[str, ...]
    files: tuple[str, ...]
    functions: frozenset[str]
    scalars: frozenset[str]


def parse_select(query: str) -> SelectStatement:
    """Parse a query and return the tables, files and functions that it reads.

    Raises:
        ValueError: The query is not a single SELECT. The message completes a sentence: "the query ...".
    """
    return _contents(_parse(query))


def check_single_select(query: str) -> None:
    """Check that a query in another database's dialect is a single SELECT, as far as DuckDB can parse it.

    A query that DuckDB cannot parse passes; the database itself checks it.

    Raises:
        ValueError: The query is not a single SELECT. The message completes a sentence: "the query ...".
    """
    with duckdb.connect() as parser:
        try:
            found = parser.extract_statements(query)
        except duckdb.Error:
            return  # valid SQL of another dialect may not parse here
    if [statement.type for statement in found] != [duckdb.StatementType.SELECT]:
        raise ValueError(_ONE_SELECT)


def check_condition(where: str, table: str) -> None:
    """Check that a text is a single condition on the rows of a table, and reads only this table.

    Raises:
        ValueError: The text is something else. The message completes a sentence: "the condition ...".
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
        raise ValueError(f"can only read the run's items (as {table}), not {others[0]}")


def condition_query(where: str, table: str) -> str:
    """Return a SELECT of a table's rows with a condition, in the form that `check_condition` checks."""
    return f"SELECT * FROM {table} WHERE (\n{where}\n)"  # the line break ends a trailing comment


def _parse(query: str) -> dict[str, Any]:
    """Return the syntax tree of a query that is a single SELECT.

    Raises:
        ValueError: The query is something else.
    """
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
    scalars: set[str] = set()
    for found in nodes:
        match found.get("type"):
            case "BASE_TABLE":
                parts = (found["catalog_name"], found["schema_name"], found["table_name"])
                tables[".".join(part for part in parts if part)] = None
            case "TABLE_FUNCTION":
                functions.add(str(found["function"]["function_name"]).lower())
                files |= dict.fromkeys(_texts(found["function"]))
            case "FUNCTION":
                scalars.add(str(found.get("function_name")).lower())
            case "SHOW_REF":
                raise ValueError("must be one SELECT and nothing else: no DESCRIBE, SHOW or SUMMARIZE")
            case _:
                pass
    # A name with other characters may be a file name in places where the named subquery is not in scope.
    own: Set[str] = {name for name in named if _SIMPLE.fullmatch(name)}
    used = tuple(name for name in tables if name not in own)
    return SelectStatement(used, tuple(files), frozenset(functions), frozenset(scalars))


def _nodes(value: Any) -> Iterator[dict[str, Any]]:
    """Yield all objects in a syntax tree, at any depth."""
    remaining: list[Any] = [value]
    while remaining:
        found: object = remaining.pop()
        if isinstance(found, dict):
            node = cast("dict[str, Any]", found)
            yield node
            remaining.extend(node.values())
        elif isinstance(found, list):
            remaining.extend(cast("list[Any]", found))


def _texts(function: dict[str, Any]) -> Iterator[str]:
    for found in _nodes(function.get("children")):
        value = found.get("value")
        if found.get("type") == "VALUE_CONSTANT" and isinstance(value, dict):
            constant = cast("dict[str, Any]", value).get("value")
            if isinstance(constant, str):
                yield constant
