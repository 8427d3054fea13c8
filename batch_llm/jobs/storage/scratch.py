"""Scratch folders, which are removed at the end, or by the next process if their process was killed."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

_SESSION = "batch-llm-session-"


def temporary_folder() -> AbstractContextManager[Path]:
    """Create a scratch folder in the system's folder for temporary files."""
    return scratch_folder(Path(tempfile.gettempdir()), _SESSION)


@contextmanager
def scratch_folder(parent: Path, prefix: str, salvage: Callable[[Path], None] | None = None) -> Generator[Path]:
    """Create a scratch folder and remove it at the end; the folders of killed processes are removed first.

    A process holds a lock on its folder. The operating system releases the lock however the process ends.

    Args:
        parent: The parent folder.
        prefix: Prefix of the folder's name, which only scratch folders of this kind have.
        salvage: Called with each abandoned folder before it is removed, to save its content.

    Raises:
        OSError: The folder cannot be created.
    """
    remove_left_folders(parent, prefix, salvage)
    folder, lock = _locked_folder(parent, prefix)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def remove_left_folders(parent: Path, prefix: str, salvage: Callable[[Path], None] | None = None) -> None:
    """Remove the scratch folders of killed processes; errors are ignored.

    Args:
        parent: The parent folder.
        prefix: Prefix of the scratch folders' names.
        salvage: Called with each abandoned folder before it is removed.
    """
    with suppress(OSError):
        for name in os.listdir(parent):  # noqa: PTH208  a prefix is no pattern
            if name.startswith(prefix):
                with suppress(OSError):
                    _remove(parent / name, salvage)


def _remove(folder: Path, salvage: Callable[[Path], None] | None) -> None:
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if salvage is not None:
            salvage(folder)
        shutil.rmtree(folder)
    finally:
        os.close(lock)


def _locked_folder(parent: Path, prefix: str) -> tuple[Path, int]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        lock = -1
        try:
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            with suppress(OSError):  # on a file system without locks, no process removes abandoned folders
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if folder.exists():
                return folder, lock
        except FileNotFoundError:
            pass  # another process removed it as abandoned, before it was locked
        if lock >= 0:
            os.close(lock)
