"""Prompt templates, and the context that the provider caches."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from batch_llm.errors import JobError

from .job import BatchJob
from .sources.nested_values import MISSING, Path, find_path
from .storage.json_files import to_json
from .storage.paths import resolve

_BRACES = re.compile(r"\{\{|\}\}|\{|\}")
_FORMAT = re.compile(r"![rsa]$|:.?[<>=^]\d*$")
"""Conversions and alignments of Python's format strings, which prompts do not support."""

_SIMPLE = re.compile(r"[\w .-]+")


class Prompt:
    """A prompt template: `{column}` is replaced by a row's value, `{{` and `}}` are literal braces.

    `{column.field}` and `{column[0]}` are replaced by a value inside a column with nested values. Doubled braces also
    work inside the name of a column.

    Example:
        >>> Prompt("{dc:title} in {total {{EUR}}}, {{as it is}}").columns
        ('dc:title', 'total {EUR}')

    Raises:
        JobError: The template is not valid.
    """

    def __init__(self, template: str) -> None:
        try:
            self._parts = list(_parts(template))
        except ValueError as error:
            raise JobError(
                f"invalid prompt template: {error}; use {{column}}, and write literal braces as {{{{ and }}}}"
            ) from error
        self.columns = tuple(dict.fromkeys(column for _, column in self._parts if column is not None))

    def check(self, columns: Iterable[str]) -> None:
        """Check that every column of the template exists.

        Raises:
            JobError: A column is missing.
        """
        self.bind(columns)

    def bind(self, columns: Iterable[str]) -> BoundPrompt:
        """Return the template for rows with these columns; a name such as `a.b` or `a[0]` may be inside column `a`.

        Raises:
            JobError: A column is missing.
        """
        known = tuple(columns)
        parts = [(literal, None if name is None else _path(name, known)) for literal, name in self._parts]
        return BoundPrompt(parts)

    def render(self, row: Mapping[str, Any]) -> str:
        """Return the prompt for a row; see `BoundPrompt.render`."""
        return self.bind(row).render(row)


def _path(name: str, columns: Sequence[str]) -> Path:
    if found := find_path(name, columns):
        return found
    braces = "" if _SIMPLE.fullmatch(name) else "; write literal braces as {{ and }}"
    raise JobError(f"the prompt uses column {name!r}, which is not in the source: it has {', '.join(columns)}{braces}")


class BoundPrompt:
    """A prompt template for rows with known columns.

    Attributes:
        columns: Columns of the source that the template uses.
    """

    def __init__(self, parts: Sequence[tuple[str, Path | None]]) -> None:
        self._parts = parts
        self.columns = frozenset(path.column for _, path in parts if path is not None)
        self._missing: dict[Path, str] = {}
        self._found: set[Path] = set()

    def render(self, row: Mapping[str, Any]) -> str:
        """Return the prompt for a row: null or a missing field becomes empty text, a list or an object becomes JSON.

        Raises:
            ValueError: A name leads into a value that is not an object or a list.
        """
        return "".join(literal + ("" if path is None else self._text(path, row)) for literal, path in self._parts)

    def check_found(self) -> None:
        """Check that no field is missing in all rows that were rendered.

        Raises:
            JobError: A field is in no row, so it is probably misspelled.
        """
        for path, why in self._missing.items():
            if path not in self._found:
                raise JobError(f"the prompt uses a value inside column {path.column!r} that no row has: {why}")

    def _text(self, path: Path, row: Mapping[str, Any]) -> str:
        if not path.steps:
            return _shown(row[path.column])
        try:
            value = path.value(row)
        except ValueError as error:
            self._missing.setdefault(path, str(error))
            raise
        if value is MISSING:
            self._missing.setdefault(path, f"there is no {path}")
            return ""
        self._found.add(path)
        return _shown(value)


def _parts(template: str) -> Iterator[tuple[str, str | None]]:
    """Yield pairs of literal text and the column after it; the column is None for the text at the end.

    Raises:
        ValueError: A brace has no partner, or a name is empty or has a format.
    """
    literal, at = "", 0
    while found := _BRACES.search(template, at):
        literal += template[at : found.start()]
        at = found.end()
        if len(found[0]) == 2:
            literal += found[0][0]
        elif found[0] == "}":
            raise ValueError("a '}' has no '{' before it")
        else:
            column, at = _column(template, at)
            yield literal, column
            literal = ""
    if literal or at < len(template):
        yield literal + template[at:], None


def _column(template: str, at: int) -> tuple[str, int]:
    """Return the column name that begins at a position, and the position after its closing brace."""
    name, begin, depth = "", at, 0
    while found := _BRACES.search(template, at):
        name += template[at : found.start()]
        at = found.end()
        if found[0] == "{{" or (found[0] == "}}" and depth):
            name += found[0][0]
            depth += 1 if found[0] == "{{" else -1
        elif found[0] == "{":
            break
        else:
            if not name or _FORMAT.search(name):
                raise ValueError(f"{{{name}}} is not the name of a column")
            return name, found.start() + 1
    raise ValueError(f"{template[begin - 1 : begin + 20]!r} has no '}}'")


def _shown(value: Any) -> str:
    match value:
        case None:
            return ""
        case str():
            return value
        case bool() | dict() | list():
            return to_json(value)
        case _:
            return str(value)


def cached_context(job: BatchJob) -> str | None:
    """Return the job's cached context; a value of the form @path is read from that file.

    Raises:
        JobError: The file cannot be read.
    """
    context = job.cached_context
    if context is None or not context.startswith("@"):
        return context
    path = resolve(context[1:])
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise JobError(f"cached_context: {path} cannot be read as UTF-8 text: {error}") from error
