"""A folder on a local disk or in a bucket, with the file operations that the ledger needs."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import uuid
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import fsspec  # pyright: ignore[reportMissingTypeStubs]  has none
from fsspec.implementations.local import LocalFileSystem  # pyright: ignore[reportMissingTypeStubs]  has none

from batch_llm.errors import JobError

from .duckdb_session import Tables, literal, session_folder
from .json_files import create_whole, write_whole
from .paths import resolve
from .permissions import make_folder, restrict_file

_LOCAL: Any = LocalFileSystem()
_PASSWORD = re.compile(r"://[^/@]*@")


class Store:
    """A folder on this machine, in a bucket, or on any other file system that fsspec supports.

    The fsspec package of the file system finds credentials and endpoints, for example in the environment. Every
    exception of a file system is raised as an `OSError`.

    Args:
        place: A path (relative paths start from the jobs' home folder), or a URL such as `s3://bucket/ledger`.

    Attributes:
        address: The absolute path, or the URL without its password, for messages.
        local: Path of the folder; None if the folder is not on a local file system.

    Raises:
        JobError: The file system of the URL is unknown, or its package is not installed.

    Example:
        >>> ledger = Store("s3://bucket/ledger").folder("tickets")
        >>> ledger.names("*/plan.json")
    """

    def __init__(self, place: str) -> None:
        remote = "://" in place and not place.startswith(("file://", "local://"))
        self.local = None if remote else resolve(place.split("://", 1)[-1])
        self._url = place.rstrip("/") if remote else str(self.local)
        self.address = _PASSWORD.sub("://***@", self._url)
        if self.local is not None:  # a path may contain characters that fsspec would treat as parts of a URL
            self._system, self._root = _LOCAL, self._url
            return
        try:
            self._system, self._root = cast("tuple[Any, str]", cast("Any", fsspec).url_to_fs(self._url))
        except Exception as error:  # every file system has its own exceptions
            raise JobError(f"ledger {self.address} cannot be reached: {_reason(error)}") from error

    def folder(self, name: str) -> Store:
        """Return a subfolder."""
        return Store(f"{self._url}/{name}")

    @property
    def parent(self) -> Store:
        """The parent folder."""
        return Store(self._url.rpartition("/")[0])

    def create(self, name: str, data: bytes) -> bool:
        """Create a file atomically; of several concurrent callers, exactly one succeeds.

        A reader sees the complete file or none, even if the writer is killed.

        Returns:
            True if the file was created, False if it already exists.

        Raises:
            OSError: The file cannot be written.
        """
        try:
            with self._wrapping_errors(name):
                self._make_folder(name)
                if self.local is None:
                    self._system.pipe_file(self._path(name), data, mode="create")
                    return True
                # For a local file, fsspec checks first and then writes: two callers could both succeed.
                create_whole(self.local / name, data)
        except FileExistsError:
            return False
        return True

    def write(self, name: str, data: bytes) -> None:
        """Replace a file atomically: a reader sees the old or the new content, never a part.

        Raises:
            OSError: The file cannot be written.
        """
        if self.local is not None:
            write_whole(self.local / name, data.decode())
            return
        with self._wrapping_errors(name):
            self._system.pipe_file(self._path(name), data)

    def put(self, path: Path, name: str) -> None:
        """Copy a local file into this folder and flush it to disk; do nothing if it is already here.

        Raises:
            OSError: The file cannot be written.
        """
        if self.local is None or self.local / name != path:
            with self._wrapping_errors(name):
                self._make_folder(name)
                self._system.put_file(str(path), self._path(name))
                if self.local is not None:
                    restrict_file(self.local / name)
                    with (self.local / name).open("rb") as copy:
                        os.fsync(copy.fileno())

    def put_all(self, paths: Sequence[Path], folder: str) -> None:
        """Copy local files into a subfolder, several at once.

        Raises:
            OSError: A file cannot be written.
        """
        with self._wrapping_errors(folder):
            self._make_folder(f"{folder}/*")
            self._system.put([str(path) for path in paths], [self._path(f"{folder}/{path.name}") for path in paths])

    def fetch(self, name: str, path: Path) -> None:
        """Copy a file of this folder to a local path, atomically.

        Raises:
            OSError: The file does not exist, or cannot be read.
        """
        make_folder(path.parent)
        partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        with self._wrapping_errors(name):
            self._system.get_file(self._path(name), str(partial))
        restrict_file(partial)
        partial.replace(path)

    def read(self, name: str) -> bytes | None:
        """Return the content of a file; None if the file does not exist.

        Raises:
            OSError: The file cannot be read.
        """
        try:
            with self._wrapping_errors(name):
                return cast("bytes", self._system.cat_file(self._path(name)))
        except FileNotFoundError:
            return None

    def names(self, pattern: str) -> list[str]:
        """Return the names of the files that match a pattern of `*` and `/`, sorted.

        Raises:
            OSError: The folder cannot be read.
        """
        return sorted(self.sizes(pattern))

    def sizes(self, pattern: str) -> dict[str, int]:
        """Return the files that match a pattern, with their sizes in bytes.

        Raises:
            OSError: The folder cannot be read.
        """
        with self._wrapping_errors(pattern):
            self._system.invalidate_cache()  # other machines write to this folder
            return dict(self._matching("", pattern.split("/")))

    def _matching(self, folder: str, parts: Sequence[str]) -> Iterator[tuple[str, int]]:
        """Yield the files below a folder that match the parts of a pattern; `*` is the only wildcard.

        The glob of a file system would also treat brackets in the address as a pattern.
        """
        part, *rest = parts
        if rest and "*" not in part:
            yield from self._matching(f"{folder}{part}/", rest)
            return
        wanted = re.compile(".*".join(map(re.escape, part.split("*"))), re.DOTALL)
        for name, size in self._entries(folder):
            if not wanted.fullmatch(name) or (name.startswith(".") and not part.startswith(".")):
                continue
            if rest and size is None:
                yield from self._matching(f"{folder}{name}/", rest)
            elif not rest and size is not None:
                yield f"{folder}{name}", size

    def _entries(self, folder: str) -> list[tuple[str, int | None]]:
        """Return the entries of a folder: name, and size of a file or None for a folder. A missing folder is empty."""
        place = self._path(folder).rstrip("/")
        try:
            if self.local is not None:
                with os.scandir(place) as entries:
                    return [(entry.name, _size(entry)) for entry in entries]
            found = cast("list[dict[str, Any]]", self._system.ls(place, detail=True))
        except (FileNotFoundError, NotADirectoryError):
            return []
        names = [(str(about["name"]).rstrip("/").rpartition("/")[2], about) for about in found]
        return [(name, None if about["type"] == "directory" else int(about["size"] or 0)) for name, about in names]

    def modified(self, name: str) -> float:
        """Return a file's modification time, in seconds since the epoch, by the clock of its file system.

        Raises:
            OSError: The file does not exist, or its file system does not report the time.
        """
        with self._wrapping_errors(name):
            return cast("datetime", self._system.modified(self._path(name))).timestamp()

    def remove(self, names: Iterable[str]) -> None:
        """Remove files; files that do not exist are ignored.

        Raises:
            OSError: A file cannot be removed.
        """
        for name in names:
            with suppress(FileNotFoundError), self._wrapping_errors(name):
                self._system.rm_file(self._path(name))

    def remove_folder(self, name: str) -> None:
        """Remove a subfolder with its content, if it exists.

        Raises:
            OSError: The folder cannot be removed.
        """
        with suppress(FileNotFoundError), self._wrapping_errors(name):
            self._system.invalidate_cache()
            if self.local is not None:
                shutil.rmtree(self.local / name)
                return
            for path in self._system.find(self._path(name)):  # `rm` would treat the name as a pattern
                self._system.rm_file(path)
            self._system.invalidate_cache()

    def for_tables(self, tables: Tables, names: Iterable[str]) -> list[str]:
        """Return paths of files that DuckDB can read in this session; remote files are copied first.

        Raises:
            OSError: A file cannot be read.
        """
        return [literal(self.copy_here(tables, name)) for name in names]

    def copy_here(self, tables: Tables, name: str) -> Path:
        """Return the local path of a file; a remote file is copied, and the copy is removed with the session.

        DuckDB would search an fsspec file system for matches of the name, and treat a bracket as a pattern.

        Raises:
            OSError: The file cannot be read.
        """
        if self.local is not None:
            return self.local / name
        # The copy keeps the folders of its name, because they contain the id of the run.
        path = session_folder(tables) / hashlib.sha256(self._url.encode()).hexdigest()[:16] / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.read(name) or b"")
        return path

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    def _make_folder(self, name: str) -> None:
        if self.local is not None:
            make_folder((self.local / name).parent)

    @contextmanager
    def _wrapping_errors(self, name: str) -> Generator[None]:
        try:
            yield
        except OSError:
            raise
        except Exception as error:  # every file system has its own exceptions
            raise OSError(f"{self.address}/{name}: {type(error).__name__}: {error}") from error


def _size(entry: os.DirEntry[str]) -> int | None:
    """Return the size of a file in bytes; None for a folder."""
    try:
        return None if entry.is_dir() else entry.stat().st_size
    except FileNotFoundError:  # the file was removed meanwhile
        return 0


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
