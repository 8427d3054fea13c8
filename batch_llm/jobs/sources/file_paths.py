"""Files at a path, matching a glob, or at a URL."""

from __future__ import annotations

import glob
import io
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

import fsspec  # pyright: ignore[reportMissingTypeStubs]  has none
from fsspec.implementations.local import LocalFileSystem  # pyright: ignore[reportMissingTypeStubs]  has none

from batch_llm.errors import JobError
from batch_llm.jobs.storage.duckdb_session import Tables, literal
from batch_llm.jobs.storage.formats import split_ending
from batch_llm.jobs.storage.paths import resolve

from .compression import CheckedFile, ZstdFile, wrapping_read_errors

LOCAL: Any = LocalFileSystem()

_BRACES = re.compile(r"\{([^{}]*,[^{}]*)\}")


def is_remote(place: str) -> bool:
    """Whether a place is a URL, which is read with fsspec."""
    return "://" in place


def is_glob(place: str) -> bool:
    """Whether a place is a local glob pattern; an existing path with wildcards in its name is not."""
    return not is_remote(place) and not exists(place) and has_wildcards(place)


def has_wildcards(place: str) -> bool:
    """Whether a place contains `*`, `?`, `[...]` or `{a,b}`."""
    return glob.has_magic(place) or _BRACES.search(place) is not None


def exists(place: str) -> bool:
    """Whether a path exists; False for a name that is too long, and in a folder without access."""
    return os.path.exists(resolve(place))  # noqa: PTH110  Path.exists() raises without access


def is_folder(place: str) -> bool:
    """Whether a path is a folder."""
    return os.path.isdir(resolve(place))  # noqa: PTH112  as above


def file_system(place: str) -> Any:
    """Return the fsspec file system of a URL.

    Raises:
        JobError: The file system is unknown, or its package is not installed.
    """
    try:
        return cast("Any", fsspec).url_to_fs(place)[0]
    except (ImportError, ValueError) as error:
        raise JobError(f"{place} cannot be reached: {error}") from error


def files_at(place: str) -> list[str]:
    """Return the files at a path, in a folder, matching a glob or at a URL, sorted; hidden files are not included.

    A folder matches a glob only by its extension, as the folder `out.csv` matches `*.csv`; it cannot be read.

    Raises:
        JobError: There are no such files, or a file system cannot be reached.
    """
    if is_remote(place):
        return _remote_files(place)
    if is_folder(place):
        folder = resolve(place)
        return [str(path) for path in sorted(folder.rglob("*")) if not _is_hidden(path, folder) and path.is_file()]
    if not is_glob(place):
        return [str(resolve(place))]
    if not (files := _matching(place)):
        raise JobError(f"no file matches {place} (in {resolve('.')}): check source")
    return files


def base_of(place: str) -> str:
    """Return the folder that the ids of files are relative to: the part of a place before the first wildcard."""
    if is_remote(place):
        return place.rpartition("/")[0]
    path = resolve(place)
    if not is_glob(place):
        return str(path if path.is_dir() else path.parent)
    return str(split_glob(place)[0])


def split_glob(place: str) -> tuple[Path, str]:
    """Split a glob into its base folder and the pattern; brackets in the name of an existing folder are literal."""
    first, *parts = resolve(place).parts
    folder = Path(first)
    while len(parts) > 1 and (folder / parts[0]).is_dir():
        folder /= parts.pop(0)
    return folder, "/".join(parts)


def without_braces(pattern: str) -> Iterator[str]:
    """Yield the patterns that a pattern with alternatives stands for.

    Example:
        >>> list(without_braces("*.{txt,md}"))
        ['*.txt', '*.md']
    """
    found = _BRACES.search(pattern)
    if found is None:
        yield pattern
        return
    for part in found[1].split(","):
        yield from without_braces(pattern[: found.start()] + part + pattern[found.end() :])


def _matching(place: str) -> list[str]:
    folder, pattern = split_glob(place)
    found = {
        str(folder / name)
        for part in without_braces(pattern)
        for name in glob.glob(part, root_dir=folder, recursive=True)  # noqa: PTH207  ** follows links
    }
    return sorted(file for file in found if not os.path.isdir(file) or _has_ending_of(place, file))  # noqa: PTH112


def _has_ending_of(place: str, folder: str) -> bool:
    ending = split_ending(place)[0]
    return ending != "" and split_ending(folder)[0] == ending


def _is_hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def readable_name(file: str) -> str:
    """Return the name of a file, escaped so that DuckDB reads this file only."""
    return file if is_remote(file) else literal(file)


def is_taken_for_glob(file: str) -> bool:
    """Whether DuckDB would treat the URL of a file as a pattern; URLs cannot be escaped."""
    return is_remote(file) and glob.has_magic(file)


def open_file(file: str) -> IO[bytes]:
    """Open a file for reading; a file with the extension of a compression is decompressed.

    Raises:
        JobError: A remote or compressed file cannot be read. Each read of the returned file may raise it, too.
        OSError: An uncompressed local file cannot be read.
    """
    packing = split_ending(file)[1]
    if not packing and not is_remote(file):
        return Path(file).open("rb")
    with wrapping_read_errors(file):
        compression = "gzip" if packing == ".gz" else None
        if is_remote(file):
            opened: Any = cast("Any", fsspec).open(file, "rb", compression=compression, expand=False).open()
        else:  # a path may contain characters that fsspec would treat as parts of a URL
            opened = LOCAL.open(file, "rb", compression=compression)
        return io.BufferedReader(CheckedFile(file, ZstdFile(opened) if packing == ".zst" else opened))


def _remote_files(place: str) -> list[str]:
    system = file_system(place)
    try:
        files = _remote_matches(system, place) if has_wildcards(place) and not system.exists(place) else [place]
        found = bool(files) and bool(system.exists(files[0]))
    except Exception as error:  # every file system has its own exceptions
        raise JobError(f"{place} cannot be read: {type(error).__name__}: {error}") from error
    if not found:
        raise JobError(f"{place} does not exist: check source")
    return [str(system.unstrip_protocol(file)) for file in files]


def _remote_matches(system: Any, place: str) -> list[str]:
    found: dict[str, Any] = {}
    for part in without_braces(place):
        found |= system.glob(part, detail=True)
    return sorted(
        file for file, about in found.items() if about.get("type") != "directory" or _has_ending_of(place, file)
    )


def register_file_system(tables: Tables, place: str) -> None:
    """Make DuckDB read URLs with the file system of a URL."""
    system = file_system(place)
    names = [system.protocol] if isinstance(system.protocol, str) else system.protocol
    if not any(tables.filesystem_is_registered(name) for name in names):
        tables.register_filesystem(system)


def check_readable(file: Path) -> None:
    """Check that a local file can be read.

    Raises:
        JobError: It cannot be read, or does not exist.
    """
    try:
        with file.open("rb") as opened:
            opened.read(1)
    except FileNotFoundError as error:
        raise JobError(f"{file} does not exist: check source") from error
    except OSError as error:
        raise JobError(f"{file} cannot be read: {error.strerror}") from error
