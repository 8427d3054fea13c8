"""Values inside the nested values of a row, such as `{column.field}` and `{column[0]}` in a prompt."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

_STEP = re.compile(r"\.([^.\[\]]+)|\[(-?\d{1,9})\]")
_STEPS = re.compile(rf"(?:{_STEP.pattern})+")

_KINDS = {"dict": "an object", "list": "a list", "str": "text", "bool": "a boolean"}

MISSING: Any = object()
"""Result of a lookup if the value has no such field or element."""


@dataclass(frozen=True, slots=True)
class Path:
    """A column, and the way from its value to a value inside it.

    Attributes:
        column: Name of the column.
        steps: Names of fields and indexes of elements; empty for the column's own value.
    """

    column: str
    steps: tuple[str | int, ...] = ()

    def __str__(self) -> str:
        steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in self.steps)
        return f"{{{self.column}{''.join(steps)}}}"

    def value(self, row: Mapping[str, Any]) -> Any:
        """Return the value in a row: None inside null, `MISSING` if there is no such field or element.

        Rows are not trusted: only keys of objects and indexes of lists are looked up, never attributes.

        Raises:
            ValueError: A step leads into a text, a number or a value of another kind.
        """
        value = row[self.column]
        for step in self.steps:
            if value is None or value is MISSING:
                return value
            value = _inside(value, step, self.column)
        return value


def find_path(name: str, columns: Collection[str]) -> Path | None:
    """Return the path of a name in a prompt, or None if no column fits; a column of exactly this name comes first.

    Example:
        >>> find_path("author.names[0]", ["id", "author"])
        Path(column='author', steps=('names', 0))
    """
    return Path(name) if name in columns else next((path for path in _paths(name) if path.column in columns), None)


def _paths(name: str) -> Iterator[Path]:
    """Yield the paths that a name may be, the longest name of a column first."""
    for at in range(len(name) - 1, 0, -1):
        if name[at] in ".[" and _STEPS.fullmatch(name, at):
            found = _STEP.finditer(name, at)
            yield Path(name[:at], tuple(int(step[2]) if step[1] is None else step[1] for step in found))


def _inside(value: object, step: str | int, column: str) -> Any:
    if isinstance(step, str) and isinstance(value, dict):
        return cast("dict[str, Any]", value).get(step, MISSING)
    if isinstance(step, int) and isinstance(value, list):
        elements = cast("list[Any]", value)
        return elements[step] if -len(elements) <= step < len(elements) else MISSING
    kind = _KINDS.get(type(value).__name__, "a number")
    wanted = f"[{step}]" if isinstance(step, int) else f".{step}"
    raise ValueError(f"{wanted} cannot be read from column {column!r}, because the value there is {kind}")
