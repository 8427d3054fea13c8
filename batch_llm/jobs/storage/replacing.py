"""Replacement of files and folders that preserves mode, owner and symbolic links."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path


def target_of(path: Path) -> Path:
    """Return the path to replace: the target of a symbolic link, so that the link itself remains."""
    return Path(os.path.realpath(path))


def check_replaceable(path: Path) -> None:
    """Check that a path can be replaced: it is a file, a folder, or does not exist.

    Raises:
        OSError: The path is a pipe, a socket or a device, or is not a valid file name.
    """
    with suppress(FileNotFoundError):
        mode = path.stat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise OSError(0, "a pipe, a socket or a device cannot be replaced: name a file")


def copy_mode_and_owner(new: Path, old: Path) -> None:
    """Copy the mode and the owner of `old` to `new`, if `old` exists."""
    with suppress(FileNotFoundError):
        about = old.stat()
        mine = new.stat()
        if (about.st_uid, about.st_gid) != (mine.st_uid, mine.st_gid):
            with suppress(PermissionError):
                os.chown(new, about.st_uid, about.st_gid)
        new.chmod(stat.S_IMODE(about.st_mode))


def copy_modes_and_owners(new: Path, old: Path) -> None:
    """Copy the modes and owners of the folder `old`, its folders and its files to `new` and its content."""
    if not old.is_dir():
        return
    folders = [path for path in sorted(old.rglob("*")) if path.is_dir()]
    files = [path for path in sorted(old.rglob("*")) if path.is_file()]
    for made in new.rglob("*"):
        alike = folders if made.is_dir() else files
        same = old / made.relative_to(new)
        if same.exists() or alike:
            copy_mode_and_owner(made, same if same.exists() else alike[0])
    copy_mode_and_owner(new, old)
