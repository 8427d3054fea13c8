"""Files at a path, matching a glob, or at a URL."""

from __future__ import annotations

import glob
import io
import os
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


def is_remote(place: str) -> bool:
    """Whether a place is a URL, which is read with fsspec."""
    return "://" in place


def is_glob(place: str) -> bool:
    """Whether a place is a glob pattern; an existing path with wildcards in its name is not."""
    return not is_remote(place) and not exists(place) and glob.has_magic(place)


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


def find_files(tables: Tables, place: str) -> list[str]:
    """Return the files at a path, glob or URL, sorted, as `readable_name` and `open_file` take them.

    Raises:
        JobError: There are no such files, or a file cannot be read.
    """
    if is_remote(place):
        return _remote_files(tables, place)
    files = _matching(place) if is_glob(place) else [str(resolve(place))]
    if not files:
        raise JobError(f"no file matches {place} (in {resolve('.')}): check source")
    for file in files:
        _check_readable(Path(file))
    return files


def split_glob(place: str) -> tuple[Path, str]:
    """Split a glob into its base folder and the pattern; brackets in the name of an existing folder are literal."""
    first, *parts = resolve(place).parts
    folder = Path(first)
    while len(parts) > 1 and (folder / parts[0]).is_dir():
        folder /= parts.pop(0)
    return folder, "/".join(parts)


def _matching(place: str) -> list[str]:
    folder, pattern = split_glob(place)
    found = glob.glob(pattern, root_dir=folder, recursive=True)  # noqa: PTH207  ** follows links
    return sorted(str(folder / name) for name in found)


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


def _remote_files(tables: Tables, place: str) -> list[str]:
    system = file_system(place)
    try:
        files = sorted(system.glob(place)) if glob.has_magic(place) and not system.exists(place) else [place]
        found = bool(files) and bool(system.exists(files[0]))
    except Exception as error:  # every file system has its own exceptions
        raise JobError(f"{place} cannot be read: {type(error).__name__}: {error}") from error
    if not found:
        raise JobError(f"{place} does not exist: check source")
    names = [system.protocol] if isinstance(system.protocol, str) else system.protocol
    if not any(tables.filesystem_is_registered(name) for name in names):
        tables.register_filesystem(system)
    return [str(system.unstrip_protocol(file)) for file in files]


def _check_readable(file: Path) -> None:
    try:
        with file.open("rb") as opened:
            opened.read(1)
    except FileNotFoundError as error:
        raise JobError(f"{file} does not exist: check source") from error
    except OSError as error:
        raise JobError(f"{file} cannot be read: {error.strerror}") from error
