"""Names and types of the columns of rows that are read in Python."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, cast

from batch_llm.jobs.storage.json_files import to_json

_NOT_IN_SQL = re.compile("[\0\ud800-\udfff]")
_KINDS = {str: "VARCHAR", int: "BIGINT", float: "DOUBLE", bool: "BOOLEAN", type(None): ""}
_BIGINTS = range(-(2**63), 2**63)


class RowColumns:
    """Columns of the rows added so far.

    A column whose values all have the same type has that type. Text that looks like a date or a number stays text.
    A column with values of several types, or with nested values, has the type JSON.

    Attributes:
        names: Names of the columns, in the order of their first appearance.
    """

    def __init__(self) -> None:
        self.names: dict[str, None] = {}
        self._named = NamedColumns()
        self._renames: dict[str, str] = {}
        self._kinds: dict[str, set[str]] = {}
        self._renamed = False

    def add_row(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        """Record the columns of a row; return the row with the names of its columns."""
        for key, value in row.items():
            if (kinds := self._kinds.get(key)) is None:
                kinds = self._add(key)
            kinds.add(_kind(value))
        return {self._renames[key]: value for key, value in row.items()} if self._renamed else row

    def types(self) -> dict[str, str]:
        """Return the columns and their DuckDB types."""
        return {self._renames[key]: _type(kinds - {""}) for key, kinds in self._kinds.items()}

    def _add(self, key: str) -> set[str]:
        self._renames[key] = self._named.add(key)
        self.names[self._renames[key]] = None
        self._renamed |= self._renames[key] != key
        self._kinds[key] = set()
        return self._kinds[key]


def _kind(value: Any) -> str:
    kind = _KINDS.get(cast("type[Any]", type(value)))
    if kind is None:
        return "VARCHAR" if to_json(value).startswith('"') else "JSON"
    if kind == "DOUBLE" and not math.isfinite(value):  # JSON cannot represent it
        return ""
    return "JSON" if kind == "BIGINT" and value not in _BIGINTS else kind


def _type(kinds: set[str]) -> str:
    return kinds.pop() if len(kinds) == 1 else "JSON"


class NamedColumns:
    """Unique column names: unnamed columns get a name, and names that differ only in case get a number.

    DuckDB compares column names without case. SQL cannot contain a NUL character, and no encoding has half of a
    surrogate pair: both become the replacement character.
    """

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._added = 0

    def add(self, name: str) -> str:
        """Return the unique name of the next column."""
        self._added += 1
        name = _NOT_IN_SQL.sub("\N{REPLACEMENT CHARACTER}", name)
        column = plain = name if name.strip() else f"column_{self._added}"
        while column.lower() in self._taken:
            column = f"{plain}_{self._added}"
        self._taken.add(column.lower())
        return column


def unique_names(found: Iterable[str]) -> tuple[str, ...]:
    """Return unique names for the columns of a table, without surrounding spaces."""
    named = NamedColumns()
    return tuple(named.add(name.strip()) for name in found)
