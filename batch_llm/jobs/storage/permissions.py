"""Access to the files of a ledger: for its owner alone, or for its group too, whatever the umask."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_OWNER_FOLDER, _OWNER_FILE = 0o700, 0o600
_GROUP_FOLDER, _GROUP_FILE = 0o2770, 0o660
"""With the set-group-ID bit, files made in a folder get the folder's group."""


def make_folder(path: Path, *, shared: bool | None = None) -> None:
    """Create a folder and its missing parents.

    Args:
        path: The folder.
        shared: Whether the group has access. None: as in the closest parent that exists.

    Raises:
        OSError: The folder cannot be created.
    """
    if path.is_dir():
        return
    if not path.parent.is_dir():
        make_folder(path.parent, shared=shared)
    with suppress(FileExistsError):  # another process was faster
        is_shared = _is_shared(path.parent) if shared is None else shared
        path.mkdir(mode=_OWNER_FOLDER)
        _set_mode(path, _GROUP_FOLDER if is_shared else _OWNER_FOLDER)
    if not path.is_dir():
        raise NotADirectoryError(20, "there is a file where a folder is needed", str(path))


def opener(path: str, flags: int) -> int:
    """Open a file for `open(..., opener=opener)`; a new file has the access of its folder."""
    descriptor = os.open(path, flags, _OWNER_FILE)
    with suppress(OSError):  # a file system without modes
        os.fchmod(descriptor, _file_mode(Path(path).parent))
    return descriptor


def restrict_file(path: Path) -> None:
    """Give a file the access of its folder."""
    _set_mode(path, _file_mode(path.parent))


def restrict_folder(path: Path) -> None:
    """Give everything in a folder the access of the folder: DuckDB creates files with the modes of the umask."""
    shared = _is_shared(path)
    for entry in _entries(path):
        is_folder = entry.is_dir(follow_symlinks=False)
        if is_folder or entry.is_file(follow_symlinks=False):
            modes = (_GROUP_FOLDER, _OWNER_FOLDER) if is_folder else (_GROUP_FILE, _OWNER_FILE)
            _set_mode(Path(entry.path), modes[0] if shared else modes[1])


def share_ledger(ledger: Path, folder: Path) -> None:
    """Give a ledger's group access to the folder of a job, which is in the ledger.

    What belongs to another user stays as it is.

    Raises:
        OSError: The folder cannot be created.
    """
    make_folder(folder, shared=True)
    if _is_shared(folder):
        _add_mode(folder, 0, but=0o007)
    else:
        _set_mode(folder, _GROUP_FOLDER)
        if _is_shared(folder):
            restrict_folder(folder)
    _add_mode(ledger, 0o050)


def restrict_ledger(folder: Path) -> None:
    """Close the folder of a job, which is in a ledger, for everybody but its owner.

    A folder that its group can write to, which is how an earlier version shared a ledger, stays open for the group.

    Raises:
        OSError: The folder cannot be created.
    """
    make_folder(folder, shared=False)
    _add_mode(folder, 0, but=0o007 if _is_shared(folder) else 0o077)


def _is_shared(folder: Path) -> bool:
    try:
        return bool(folder.stat().st_mode & stat.S_IWGRP)
    except OSError:
        return False


def _file_mode(folder: Path) -> int:
    return _GROUP_FILE if _is_shared(folder) else _OWNER_FILE


def _set_mode(path: Path, mode: int) -> None:
    with suppress(OSError):  # a file system without modes, or the file of another user
        path.chmod(mode)


def _add_mode(path: Path, more: int, *, but: int = 0) -> None:
    with suppress(OSError):
        mode = stat.S_IMODE(path.stat().st_mode)
        if (wanted := (mode | more) & ~but) != mode:
            path.chmod(wanted)


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            found = list(entries)
    except OSError:
        return
    for entry in found:
        yield entry
        if entry.is_dir(follow_symlinks=False):
            yield from _entries(Path(entry.path))
