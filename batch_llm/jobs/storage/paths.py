"""Where things lie: the flows, presets and samples that we ship, and the folder that relative paths start from."""

from __future__ import annotations

import os
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[2]


def project_folder() -> Path:
    """Return the folder with `flows/` and `deployments/`: the checkout, or what an installed wheel carries."""
    carried = _PACKAGE / "_project"
    return carried if carried.is_dir() else _PACKAGE.parent


def home() -> Path:
    """Return the folder that relative paths of a job start from: `BATCH_LLM_HOME`, else the working directory.

    Prefect changes the working directory of a run; whoever starts one sets the variable to where the user stood.
    """
    return Path(os.environ.get("BATCH_LLM_HOME") or Path.cwd())


def resolve(path: str) -> Path:
    """Return `path` as an absolute one."""
    # Path's own raises where ~name is no user's folder, but the beginning of a file's name.
    return home() / os.path.expanduser(path)  # noqa: PTH111
