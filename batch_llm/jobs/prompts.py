"""Prompts and keys: what is sent for a row, and the name of everything that shapes its answer."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from batch_llm.errors import JobError

from .job import BatchJob
from .storage.json_files import to_json
from .storage.paths import resolve

_BRACES = re.compile(r"\{\{|\}\}|\{|\}")
_FORMAT = re.compile(r"![rsa]$|:.?[<>=^]\d*$")
"""What Python writes after a name to convert or to align it; no value has a format here."""

_SIMPLE = re.compile(r"[\w .-]+")


class Prompt:
    """A template: `{column}` stands for a row's value, `{{` and `}}` for braces, also within a column's name.

    Example:
        >>> Prompt("{dc:title} in {total {{EUR}}}, {{as it is}}").columns
        ('dc:title', 'total {EUR}')

    Raises:
        JobError: The text is no template.
    """

    def __init__(self, template: str) -> None:
        try:
            self._parts = list(_parts(template))
        except ValueError as error:
            raise JobError(
                f"the prompt is no template: {error}; write {{column}} with a name alone, {{{{ and }}}} for braces"
            ) from error
        self.columns = tuple(dict.fromkeys(column for _, column in self._parts if column is not None))

    def check(self, columns: Iterable[str]) -> None:
        """See that every column that the template names exists.

        Raises:
            JobError: One does not.
        """
        known = list(columns)
        for column in self.columns:
            if column not in known:
                braces = "" if _SIMPLE.fullmatch(column) else "; if it is text with braces, write {{ and }} for them"
                raise JobError(
                    f"the prompt names the column {column!r}, which the source lacks: it has {', '.join(known)}{braces}"
                )

    def render(self, row: Mapping[str, Any]) -> str:
        """Return the prompt for a row: null is empty, a list or an object is JSON."""
        return "".join(literal + (_shown(row[column]) if column is not None else "") for literal, column in self._parts)


def _parts(template: str) -> Iterator[tuple[str, str | None]]:
    """Yield the text before each column, and the column; None after the last one.

    Raises:
        ValueError: A brace is alone, or a name is empty or has a format.
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
    """Return the name that begins somewhere, and where the text after its brace begins."""
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


class Keys:
    """Names an answer by everything that shapes it, so that a change of any of it is a new item of work."""

    def __init__(self, job: BatchJob, strategy: str = "") -> None:
        shape = {
            "instructions": job.instructions,
            "model": job.model,
            "model_settings": job.model_settings,
            "output_schema": job.output_schema,
            "cached_context": cached_context(job),
            "strategy": strategy,
        }
        # Sorted: on its way through a deployment and a database the order of keys may change.
        self._shape = hashlib.sha256(json.dumps(shape, sort_keys=True, default=str).encode())

    def key(self, prompt: str) -> str:
        """Return the key of one prompt, in hexadecimal."""
        digest = self._shape.copy()
        digest.update(b"\0" + prompt.encode("utf-8", "replace"))
        return digest.hexdigest()


def cached_context(job: BatchJob) -> str | None:
    """Return the job's cached context, read from its file where it is given as @path.

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
