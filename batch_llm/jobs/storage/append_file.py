"""A file that only grows, at any address: what was written to it stays, whatever becomes of the writer."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import uuid
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path

from .access import make_folder, opener
from .store import Store


class AppendedFile(ABC):
    """A file with one writer.

    Attributes:
        place: Where it is, as a person reads it.
        is_slow: Whether a write takes so long that it belongs into a thread.
    """

    place: str
    is_slow: bool

    @abstractmethod
    def write(self, lines: bytes) -> None:
        """Add whole lines; when this returns, they outlive the process.

        Raises:
            OSError: They cannot be added; whether a part of them was is not known.
        """

    @abstractmethod
    def sync(self) -> None:
        """Make what was written outlive the machine as well; takes as long as the disk does.

        Raises:
            OSError: The disk lost something.
        """

    @abstractmethod
    def close(self) -> None:
        """Leave the file as others may read it for good."""


def open_appended(store: Store, name: str) -> AppendedFile:
    """Open a new file, `<name>.jsonl`.

    Raises:
        OSError: It cannot be made.
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
        left = b"\n" + lines if self._torn else lines
        self._torn = True  # unless all of it gets there: what follows must not be glued to half a line
        while (written := self._file.write(left)) < len(left):
            left = left[written:]
        self._torn = False

    def sync(self) -> None:
        os.fdatasync(self._file)
        if self._lost is None and not self._is_there():
            self._lost = OSError(errno.ENOENT, f"it was deleted, renamed or replaced during the run{self._rescued()}")

    def _is_there(self) -> bool:
        """Whether others find under its name what is written here."""
        ours = os.fstat(self._file.fileno())
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return False
        return (found.st_dev, found.st_ino) == (ours.st_dev, ours.st_ino)

    def _rescued(self) -> str:
        """Write what was in a file that nobody finds any more into a new one; say where."""
        if os.fstat(self._file.fileno()).st_nlink:
            return ""  # renamed: what was written is there
        copy = self._path.with_name(f"{self._path.name[:-39]}-{uuid.uuid4().hex}.jsonl")
        with suppress(OSError):
            make_folder(copy.parent)
            self._file.seek(0)
            with open(copy, "xb", opener=opener) as kept:
                shutil.copyfileobj(self._file, kept)
            return f"; what was in it is in {copy}"
        return ""

    def close(self) -> None:
        with suppress(OSError):  # a disk that cannot is told of by write()
            self.sync()
        self._file.close()


class _Pieces(AppendedFile):
    """Objects in a bucket cannot grow: each write is one of its own, and the end puts them together."""

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
        pass  # the bucket has done it

    def close(self) -> None:
        # Whatever fails here, the pieces stay, and say the same.
        with self._whole as whole, suppress(OSError):
            if len(self._pieces) > 1:
                whole.seek(0)
                self._store.write(f"{self._name}.jsonl", whole.read())
                self._store.remove(self._pieces)
