"""An append-only file on any file system; written lines survive a crash of the writer."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import uuid
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path

from .permissions import make_folder, opener
from .store import Store


class AppendedFile(ABC):
    """An append-only file with one writer.

    Attributes:
        place: Path or URL of the file, for messages.
        is_slow: Whether a write takes so long that it should run in a thread.
    """

    place: str
    is_slow: bool

    @abstractmethod
    def write(self, lines: bytes) -> None:
        """Append complete lines; after this returns, they survive a crash of the process.

        Raises:
            OSError: The lines cannot be appended; some of them may have been written.
        """

    @abstractmethod
    def sync(self) -> None:
        """Flush the written lines to disk, so that they survive a crash of the machine. This call blocks.

        Raises:
            OSError: Written lines were lost.
        """

    @abstractmethod
    def close(self) -> None:
        """Close the file in its final form."""


def open_appended(store: Store, name: str) -> AppendedFile:
    """Open a new append-only file, `<name>.jsonl`.

    Args:
        store: The folder for the file.
        name: Name of the file within the folder, without its extension.

    Raises:
        OSError: The file cannot be created.
    """
    return _Pieces(store, name) if store.local is None else _LocalFile(store.local / f"{name}.jsonl")


class _LocalFile(AppendedFile):
    is_slow = False

    def __init__(self, path: Path) -> None:
        make_folder(path.parent)
        self.place = str(path)
        self._path = path
        self._file = open(path, "x+b", buffering=0, opener=opener)  # noqa: SIM115  closed by close()
        self._torn = False
        self._lost: OSError | None = None

    def write(self, lines: bytes) -> None:
        if self._lost is not None:
            raise self._lost
        remaining = b"\n" + lines if self._torn else lines
        self._torn = True  # until everything is written: the next line must not be appended to half a line
        while (written := self._file.write(remaining)) < len(remaining):
            remaining = remaining[written:]
        self._torn = False

    def sync(self) -> None:
        os.fdatasync(self._file)
        if self._lost is None and not self._is_at_path():
            self._lost = OSError(errno.ENOENT, f"it was deleted, renamed or replaced during the run{self._rescue()}")

    def _is_at_path(self) -> bool:
        """Whether the path still leads to the open file."""
        ours = os.fstat(self._file.fileno())
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return False
        return (found.st_dev, found.st_ino) == (ours.st_dev, ours.st_ino)

    def _rescue(self) -> str:
        """Copy the content of a deleted file into a new file; return a note on where it is."""
        if os.fstat(self._file.fileno()).st_nlink:
            return ""  # the file was renamed: its content still exists
        copy = self._path.with_name(f"{self._path.name[:-39]}-{uuid.uuid4().hex}.jsonl")
        with suppress(OSError):
            make_folder(copy.parent)
            self._file.seek(0)
            with open(copy, "xb", opener=opener) as target:
                shutil.copyfileobj(self._file, target)
            return f"; its content was saved to {copy}"
        return ""

    def close(self) -> None:
        with suppress(OSError):  # write() reports a failing disk
            self.sync()
        self._file.close()


class _Pieces(AppendedFile):
    """A file in a bucket, whose objects cannot grow: each write is one object, and `close` joins them.

    Objects that were deleted meanwhile are in the joined object again; later writes do not depend on them.
    """

    is_slow = True

    def __init__(self, store: Store, name: str) -> None:
        self.place = f"{store.address}/{name}.jsonl"
        self._store, self._name = store, name
        self._pieces: list[str] = []
        self._whole = tempfile.TemporaryFile()  # noqa: SIM115  closed by close()

    def write(self, lines: bytes) -> None:
        piece = f"{self._name}.{len(self._pieces) + 1:06d}.jsonl"
        self._store.write(piece, lines)
        self._pieces.append(piece)
        self._whole.write(lines)

    def sync(self) -> None:
        pass  # an object that was written is durable

    def close(self) -> None:
        # If joining fails, the pieces remain, and readers accept them as well.
        with self._whole as whole, suppress(OSError):
            if len(self._pieces) > 1 or (self._pieces and not self._store.names(self._pieces[0])):
                whole.seek(0)
                self._store.write(f"{self._name}.jsonl", whole.read())
                self._store.remove(self._pieces)
