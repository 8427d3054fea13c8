"""Names of columns, where a source's own will not do."""

from __future__ import annotations

from collections.abc import Iterable


def unique_names(found: Iterable[str]) -> tuple[str, ...]:
    """Name nameless columns, and tell columns apart that differ in nothing but case: DuckDB takes them for one."""
    names: dict[str, str] = {}
    for number, cell in enumerate(found, start=1):
        column = plain = cell.strip() or f"column_{number}"
        while column.lower() in names:
            column = f"{plain}_{number}"
        names[column.lower()] = column
    return tuple(names.values())
