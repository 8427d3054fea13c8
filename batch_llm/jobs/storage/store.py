"""A folder at any fsspec address, and the few things that the ledger does in it."""

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

from .access import make_folder, restrict_file
from .duckdb_session import Tables, literal, session_folder
from .json_files import create_whole, write_whole
from .paths import resolve

_LOCAL: Any = LocalFileSystem()
_PASSWORD = re.compile(r"://[^/@]*@")


class Store:
    """A folder: on this machine, in a bucket, wherever fsspec reaches.

    Credentials and endpoints come from where the address's fsspec package takes them, such as the environment.
    Whatever a file system raises becomes an `OSError`.

    Args:
        place: A path, relative ones from the home folder of jobs, or a URL such as `s3://bucket/ledger`.

    Attributes:
        address: The absolute path, or the URL without its password, to be shown.
        local: The same as a path; None where it is not on this machine's file system.

    Raises:
        JobError: The URL's file system is not known, or its package is missing.
    """

    def __init__(self, place: str) -> None:
        remote = "://" in place and not place.startswith(("file://", "local://"))
        self.local = None if remote else resolve(place.split("://", 1)[-1])
        self._url = place.rstrip("/") if remote else str(self.local)
        self.address = _PASSWORD.sub("://***@", self._url)
        if self.local is not None:  # a path may have anything in it, also what fsspec takes for a part of a URL
            self._system, self._root = _LOCAL, self._url
            return
        try:
            self._system, self._root = cast("tuple[Any, str]", cast("Any", fsspec).url_to_fs(self._url))
        except Exception as error:  # every file system has exceptions of its own
            raise JobError(f"ledger {self.address} cannot be reached: {_reason(error)}") from error

    def folder(self, name: str) -> Store:
        """Return a folder in this one."""
        return Store(f"{self._url}/{name}")

    @property
    def parent(self) -> Store:
        """The folder that this one is in."""
        return Store(self._url.rpartition("/")[0])

    def create(self, name: str, data: bytes) -> bool:
        """Write a file that does not exist; tell whether that was so. Of several who try, one succeeds.

        A reader sees all of it or nothing, also when its writer is killed.

        Raises:
            OSError: It cannot be written.
        """
        try:
            with self._wrapping_errors(name):
                self._make_folder(name)
                if self.local is None:
                    self._system.pipe_file(self._path(name), data, mode="create")
                    return True
                # fsspec looks whether a local file exists and then writes it: two may both succeed.
                create_whole(self.local / name, data)
        except FileExistsError:
            return False
        return True

    def write(self, name: str, data: bytes) -> None:
        """Write a file so that a reader sees the old or the new one, never a part.

        Raises:
            OSError: It cannot be written.
        """
        if self.local is not None:
            write_whole(self.local / name, data.decode())
            return
        with self._wrapping_errors(name):
            self._system.pipe_file(self._path(name), data)

    def put(self, path: Path, name: str) -> None:
        """Copy a file of this machine to here, unless it is here already; the copy outlives the machine.

        Raises:
            OSError: It cannot be written.
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
        """Copy files of this machine into a folder here, several at once.

        Raises:
            OSError: One cannot be written.
        """
        with self._wrapping_errors(folder):
            self._make_folder(f"{folder}/*")
            self._system.put([str(path) for path in paths], [self._path(f"{folder}/{path.name}") for path in paths])

    def fetch(self, name: str, path: Path) -> None:
        """Copy a file to this machine, whole or not at all.

        Raises:
            OSError: There is none, or it cannot be read.
        """
        make_folder(path.parent)
        partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        with self._wrapping_errors(name):
            self._system.get_file(self._path(name), str(partial))
        restrict_file(partial)
        partial.replace(path)

    def read(self, name: str) -> bytes | None:
        """Return a file's content; None where there is none.

        Raises:
            OSError: It cannot be read.
        """
        try:
            with self._wrapping_errors(name):
                return cast("bytes", self._system.cat_file(self._path(name)))
        except FileNotFoundError:
            return None

    def names(self, pattern: str) -> list[str]:
        """Return the files that match a pattern of `*` and `/`, sorted.

        Raises:
            OSError: The folder cannot be read.
        """
        return sorted(self.sizes(pattern))

    def sizes(self, pattern: str) -> dict[str, int]:
        """Return the files that match a pattern, and how many bytes each has.

        Raises:
            OSError: The folder cannot be read.
        """
        with self._wrapping_errors(pattern):
            self._system.invalidate_cache()  # other machines write here
            return dict(self._matching("", pattern.split("/")))

    def _matching(self, folder: str, parts: Sequence[str]) -> Iterator[tuple[str, int]]:
        """Yield the files below a folder that match the parts of a pattern; nothing but `*` in them has a meaning.

        A file system's own search would take a bracket in the address for a pattern, too.
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
        """Return the names in a folder, and the bytes of those that are files; none where there is no such folder."""
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
        """Return when a file was written last, in seconds since the epoch, by the clock of where it is.

        Raises:
            OSError: There is none, or its file system does not tell.
        """
        with self._wrapping_errors(name):
            return cast("datetime", self._system.modified(self._path(name))).timestamp()

    def remove(self, names: Iterable[str]) -> None:
        """Remove files; those that are gone already are none to complain of.

        Raises:
            OSError: One cannot be removed.
        """
        for name in names:
            with suppress(FileNotFoundError), self._wrapping_errors(name):
                self._system.rm_file(self._path(name))

    def remove_folder(self, name: str) -> None:
        """Remove a folder and all that is in it, if there is one.

        Raises:
            OSError: It cannot be removed.
        """
        with suppress(FileNotFoundError), self._wrapping_errors(name):
            self._system.invalidate_cache()
            if self.local is not None:
                shutil.rmtree(self.local / name)
                return
            for path in self._system.find(self._path(name)):  # `rm` would take its name for a pattern
                self._system.rm_file(path)
            self._system.invalidate_cache()

    def for_tables(self, tables: Tables, names: Iterable[str]) -> list[str]:
        """Return files as DuckDB reads them in this session.

        Raises:
            OSError: One cannot be read.
        """
        return [literal(self.copy_here(tables, name)) for name in names]

    def copy_here(self, tables: Tables, name: str) -> Path:
        """Return a file of this machine: from elsewhere, a copy that goes with the session.

        DuckDB asks a file system of fsspec for what matches a name, and would take a bracket for a pattern.

        Raises:
            OSError: It cannot be read.
        """
        if self.local is not None:
            return self.local / name
        # In a folder as it is there: by it is told which run a file is of.
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
        except Exception as error:  # every file system has exceptions of its own
            raise OSError(f"{self.address}/{name}: {type(error).__name__}: {error}") from error


def _size(entry: os.DirEntry[str]) -> int | None:
    """Return the bytes of a file; None for a folder."""
    try:
        return None if entry.is_dir() else entry.stat().st_size
    except FileNotFoundError:  # it went meanwhile
        return 0


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
