"""JSON lines and whole files: one way to write them, one forgiving way to read them."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, cast


def write_whole(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old or the new one, never a part.

    Raises:
        OSError: The folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(name).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(name).unlink()
        raise


def to_json(value: Any) -> str:
    """Return `value` as one line of JSON that every reader takes.

    Half a surrogate pair (a model that broke off in an emoji) becomes "?", NaN and infinity become null, and a value
    that JSON does not know, such as a date, becomes its text.
    """
    try:
        text = json.dumps(value, ensure_ascii=False, default=str, allow_nan=False, separators=(",", ":"))
    except ValueError:
        text = json.dumps(_without_nan(value), ensure_ascii=False, default=str, separators=(",", ":"))
    return text.encode("utf-8", "replace").decode("utf-8")


def _without_nan(value: Any) -> Any:
    match value:
        case float():
            return value if math.isfinite(value) else None
        case dict():
            return {key: _without_nan(inner) for key, inner in cast("dict[Any, Any]", value).items()}
        case list() | tuple():
            return [_without_nan(inner) for inner in cast("list[Any]", value)]
        case _:
            return value


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a JSON lines file; a torn line and whatever else is no object are left out."""
    with path.open("rb") as file:
        for line in file:
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if isinstance(record, dict):
                yield cast("dict[str, Any]", record)


def read_object(path: Path) -> dict[str, Any]:
    """Return the object in a small JSON file; empty where there is no such file, or no object in it."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}
