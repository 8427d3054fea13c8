"""Settings of a job that are read from files: `@file` for the prompt, the instructions and the schema."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from batch_llm.errors import JobError

from .storage.paths import home

SETTINGS = ("prompt", "instructions", "output_schema")
_KEPT = ("cached_context",)
"""Settings whose `@file` stays a reference until the calls: the text may be longer than Prefect's parameters may be."""

_REFERENCE = re.compile(r"@[^\s{}][^\n{}]*")
"""A text with braces or several lines is not the name of a file."""


def with_files_read(values: Mapping[str, Any], folder: Path | None = None) -> dict[str, Any]:
    """Return settings in which the content of the file replaces each `@file`.

    The `@file` of `cached_context` gets an absolute path instead, if there is a folder.

    Args:
        values: Values of the settings by name.
        folder: Folder of relative paths; None for the working folder.

    Raises:
        JobError: A file cannot be read, or is not a valid schema.
    """
    names = [name for name in SETTINGS if _is_reference(values.get(name))]
    read = {name: _read(name, values[name], folder) for name in names}
    return {**values, **read, **(_absolute(values, _KEPT, folder) if folder else {})}


def with_folder(values: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return settings in which each `@file` has an absolute path.

    Args:
        values: Values of the settings by name.
        folder: Folder of relative paths.
    """
    return {**values, **_absolute(values, SETTINGS + _KEPT, folder)}


def parse_schema(text: str, place: str) -> Any:
    """Return a schema from JSON or YAML text.

    Raises:
        JobError: The text is neither; the message names the `place` of the text.
    """
    try:
        return json.loads(text) if text.lstrip().startswith("{") else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError) as error:
        raise JobError(f"{place} is not a valid JSON Schema: {error}") from error


def _absolute(values: Mapping[str, Any], names: Iterable[str], folder: Path) -> dict[str, str]:
    return {name: f"@{_path(values[name], folder)}" for name in names if _is_reference(values.get(name))}


def _is_reference(value: object) -> bool:
    return isinstance(value, str) and _REFERENCE.fullmatch(value) is not None


def _read(setting: str, reference: str, folder: Path | None) -> Any:
    path = _path(reference, folder)
    try:
        text = path.read_text(encoding="utf-8-sig").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise JobError(
            f"{setting}: cannot read the file {path}: {reason}. To send a text that begins with @, write a space first"
        ) from error
    if setting == "output_schema":
        return parse_schema(text, f"{setting}: {path}")
    if _is_reference(text):  # the settings of a run are parsed again in its process
        raise JobError(f"{setting}: the text in {path} is itself the name of a file, {text[:60]!r}: name that file")
    return text


def _path(reference: str, folder: Path | None) -> Path:
    # As in `resolve`, ~name may be the beginning of a file's name instead of a user's folder.
    return (folder or home()) / os.path.expanduser(reference[1:])  # noqa: PTH111
