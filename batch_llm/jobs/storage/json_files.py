"""Reading and writing of JSON Lines files and small JSON files; readers skip invalid content."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, cast

import pydantic_core

from .permissions import make_folder, opener


def write_whole(path: Path, text: str) -> None:
    """Replace a file atomically: a reader sees the old or the new content, never a part.

    Raises:
        OSError: The folder cannot be written.
    """
    make_folder(path.parent)
    part = _beside(path)
    try:
        _write(part, text.encode())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def create_whole(path: Path, data: bytes) -> None:
    """Create a file atomically: one of several concurrent callers succeeds, and a reader never sees a part.

    Raises:
        FileExistsError: The file exists.
        OSError: The folder cannot be written.
    """
    part = _beside(path)
    try:
        _write(part, data)
        try:
            os.link(part, path)
        except FileExistsError:
            raise
        except OSError:  # on a file system without hard links, such as FAT, a reader may see an empty file for a moment
            with open(path, "xb", opener=opener) as file:
                file.write(data)
    finally:
        part.unlink(missing_ok=True)


def _write(path: Path, data: bytes) -> None:
    with open(path, "wb", opener=opener) as file:
        file.write(data)


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}")


def to_json(value: Any) -> str:
    """Serialize `value` as one line of strict JSON.

    Models and dataclasses become objects, bytes become hexadecimal text, NaN and infinity become null. Half a
    surrogate pair (from a model that stopped inside an emoji) becomes "?". Any other value becomes its `str`.
    """
    try:
        return pydantic_core.to_json(value, fallback=str, inf_nan_mode="null", bytes_mode="hex").decode()
    except pydantic_core.PydanticSerializationError:
        plain = pydantic_core.to_jsonable_python(value, fallback=str, inf_nan_mode="null", bytes_mode="hex")
        return to_json(json.loads(json.dumps(plain, ensure_ascii=False).encode("utf-8", "replace")))


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a JSON Lines file; truncated lines and values other than objects are skipped."""
    with path.open("rb") as file:
        yield from objects_in(file)


def objects_in(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """Yield the objects of JSON lines; truncated lines and values other than objects are skipped."""
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict):
            yield cast("dict[str, Any]", record)


def read_object(path: Path) -> dict[str, Any]:
    """Return the object in a small JSON file; empty if there is no such file, or no object in the file."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}
