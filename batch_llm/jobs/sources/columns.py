"""Columns of rows that pass through Python: what each is called, and of which kinds its values are."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, cast

from batch_llm.jobs.storage.json_files import to_json

_KINDS = {str: "VARCHAR", int: "BIGINT", float: "DOUBLE", bool: "BOOLEAN", type(None): ""}
_BIGINTS = range(-(2**63), 2**63)


class RowColumns:
    """The columns of the rows met so far.

    A column has a type where all its values agree, text that looks like a date or a number stays text, and where they
    do not agree, or hold other values, each stays the JSON that it is.

    Attributes:
        names: What they are called, in the order in which they were met.
    """

    def __init__(self) -> None:
        self.names: dict[str, None] = {}
        self._named = NamedColumns()
        self._called: dict[str, str] = {}
        self._kinds: dict[str, set[str]] = {}
        self._renamed = False

    def add_row(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a row under the names that its columns have."""
        for key, value in row.items():
            if (kinds := self._kinds.get(key)) is None:
                kinds = self._add(key)
            kinds.add(_kind(value))
        return {self._called[key]: value for key, value in row.items()} if self._renamed else row

    def types(self) -> dict[str, str]:
        """Return the columns, and the DuckDB type that each is read as."""
        return {self._called[key]: _type(kinds - {""}) for key, kinds in self._kinds.items()}

    def _add(self, key: str) -> set[str]:
        self._called[key] = self._named.add(key)
        self.names[self._called[key]] = None
        self._renamed |= self._called[key] != key
        self._kinds[key] = set()
        return self._kinds[key]


def _kind(value: Any) -> str:
    kind = _KINDS.get(cast("type[Any]", type(value)))
    if kind is None:
        return "VARCHAR" if to_json(value).startswith('"') else "JSON"
    if kind == "DOUBLE" and not math.isfinite(value):  # which JSON has no words for
        return ""
    return "JSON" if kind == "BIGINT" and value not in _BIGINTS else kind


def _type(kinds: set[str]) -> str:
    return kinds.pop() if len(kinds) == 1 else "JSON"


class NamedColumns:
    """Names nameless columns, and tells columns apart that differ in nothing but case: DuckDB takes them for one."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._added = 0

    def add(self, name: str) -> str:
        """Return what the next column is called."""
        self._added += 1
        column = plain = name if name.strip() else f"column_{self._added}"
        while column.lower() in self._taken:
            column = f"{plain}_{self._added}"
        self._taken.add(column.lower())
        return column


def unique_names(found: Iterable[str]) -> tuple[str, ...]:
    """Name the columns of a table, without the spaces around them."""
    named = NamedColumns()
    return tuple(named.add(name.strip()) for name in found)
