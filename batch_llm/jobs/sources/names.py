"""Names of columns, where a source's own will not do."""

from __future__ import annotations

from collections.abc import Iterable


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
