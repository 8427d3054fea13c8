"""Prompts and keys: what is sent for a row, and the name of everything that shapes its answer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from string import Formatter
from typing import Any

from batch_llm.errors import JobError

from .files import to_json
from .job import BatchJob
from .project import resolve


class Prompt:
    """A template: `{column}` stands for a row's value, `{{` and `}}` for braces.

    Raises:
        JobError: The text is no template.
    """

    def __init__(self, template: str) -> None:
        try:
            parts = list(Formatter().parse(template))
        except ValueError as error:
            raise JobError(f"the prompt is no template: {error}; write {{{{ and }}}} for braces") from error
        for _, column, form, conversion in parts:
            if column == "" or form or conversion:
                raise JobError("the prompt is no template: write {column} with a name alone, {{ and }} for braces")
        self._parts = [(literal, column) for literal, column, _, _ in parts]
        self.columns = tuple(dict.fromkeys(column for _, column in self._parts if column is not None))

    def check(self, columns: Iterable[str]) -> None:
        """See that every column that the template names exists.

        Raises:
            JobError: One does not.
        """
        known = list(columns)
        for column in self.columns:
            if column not in known:
                raise JobError(
                    f"the prompt names the column {column!r}, which the source lacks: it has {', '.join(known)}"
                )

    def render(self, row: Mapping[str, Any]) -> str:
        """Return the prompt for a row: null is empty, a list or an object is JSON."""
        return "".join(literal + (_shown(row[column]) if column is not None else "") for literal, column in self._parts)


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
