"""JSON lines and whole files: one way to write them, one forgiving way to read them."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, cast

import pydantic_core

from .access import make_folder, opener


def write_whole(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old or the new one, never a part.

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
    """Write a file that does not exist; of several who try, one succeeds, and a reader never sees a part.

    Raises:
        FileExistsError: There is one.
        OSError: The folder cannot be written.
    """
    part = _beside(path)
    try:
        _write(part, data)
        try:
            os.link(part, path)
        except FileExistsError:
            raise
        except OSError:  # a file system without links, such as FAT: there a reader may see it empty for a moment
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
    """Return `value` as one line of JSON that every reader takes.

    Models and dataclasses become objects, bytes hexadecimal, NaN and infinity null, half a surrogate pair (a model that
    broke off in an emoji) becomes "?", and a value that JSON does not know becomes its text.
    """
    try:
        return pydantic_core.to_json(value, fallback=str, inf_nan_mode="null", bytes_mode="hex").decode()
    except pydantic_core.PydanticSerializationError:
        plain = pydantic_core.to_jsonable_python(value, fallback=str, inf_nan_mode="null", bytes_mode="hex")
        return to_json(json.loads(json.dumps(plain, ensure_ascii=False).encode("utf-8", "replace")))


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a JSON lines file; a torn line and whatever else is no object are left out."""
    with path.open("rb") as file:
        yield from objects_in(file)


def objects_in(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """Yield the objects among JSON lines; a torn line and whatever else is no object are left out."""
    for line in lines:
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
