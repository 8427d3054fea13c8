"""Folders to work in that go with their process, or, where that was killed, with the next one that works there."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def scratch_folder(parent: Path, prefix: str, salvage: Callable[[Path], None] | None = None) -> Generator[Path]:
    """Have a folder whose name begins with a prefix; those that killed processes left go first.

    Whose process lives has a lock on its folder, which ends with it, however it ends.

    Args:
        parent: Where it is.
        prefix: What tells that a folder is of this kind, and of nobody else.
        salvage: Takes what must not go out of a folder that was left.

    Raises:
        OSError: It cannot be made.
    """
    remove_left_folders(parent, prefix, salvage)
    folder, lock = _locked_folder(parent, prefix)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def remove_left_folders(parent: Path, prefix: str, salvage: Callable[[Path], None] | None = None) -> None:
    """Remove the folders of killed processes; what cannot be removed stays."""
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
            with suppress(OSError):  # a file system without locks: then nobody takes it for one that was left, either
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if folder.exists():
                return folder, lock
        except FileNotFoundError:
            pass  # another process took it for one that was left, before it was locked
        if lock >= 0:
            os.close(lock)
