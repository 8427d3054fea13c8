"""Files and folders that take the place of others: with their mode and owner, and behind the same symbolic links."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path


def target_of(path: Path) -> Path:
    """Return what is to be replaced: where a symbolic link leads to, so that the link stays."""
    return Path(os.path.realpath(path))


def check_replaceable(path: Path) -> None:
    """See that nothing at a path is lost by being replaced.

    Raises:
        OSError: There is a pipe, a socket or a device, or no file can have this name.
    """
    with suppress(FileNotFoundError):
        mode = path.stat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise OSError(0, "it is a pipe, a socket or a device, which cannot be replaced: name a file")


def copy_mode_and_owner(new: Path, old: Path) -> None:
    """Give a file or a folder the mode and the owner of another one, if there is one."""
    with suppress(FileNotFoundError):
        about = old.stat()
        mine = new.stat()
        if (about.st_uid, about.st_gid) != (mine.st_uid, mine.st_gid):
            with suppress(PermissionError):
                os.chown(new, about.st_uid, about.st_gid)
        new.chmod(stat.S_IMODE(about.st_mode))


def copy_modes_and_owners(new: Path, old: Path) -> None:
    """Give a folder and all that is in it the modes and the owner of another one's folders and files."""
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
