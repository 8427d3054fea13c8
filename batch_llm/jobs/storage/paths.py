"""Locations of the shipped flows, presets and samples, and resolution of relative paths."""

from __future__ import annotations

import os
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[2]


def project_folder() -> Path:
    """Return the folder with `flows/` and `deployments/`: the checkout, or the copy in an installed wheel."""
    packaged = _PACKAGE / "_project"
    return packaged if packaged.is_dir() else _PACKAGE.parent


def home() -> Path:
    """Return the base folder of a job's relative paths: `BATCH_LLM_HOME`, or else the working directory.

    Prefect changes the working directory of a run, so the process that starts a run sets the variable to the user's
    working directory.
    """
    return Path(os.environ.get("BATCH_LLM_HOME") or Path.cwd())


def resolve(path: str) -> Path:
    """Return the absolute form of `path`, relative to `home()`; a leading `~` is expanded."""
    # Path.expanduser() raises if ~name is the beginning of a file's name instead of a user's folder.
    return home() / os.path.expanduser(path)  # noqa: PTH111
