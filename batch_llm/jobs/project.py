"""Where things lie: the flows, presets and samples that we ship, and the folder that relative paths start from."""

from __future__ import annotations

import os
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent.parent


def project_folder() -> Path:
    """Return the folder with `flows/` and `deployments/`: the checkout, or what an installed wheel carries."""
    carried = _PACKAGE / "_project"
    return carried if carried.is_dir() else _PACKAGE.parent


def home() -> Path:
    """Return the folder that relative paths of a job start from.

    It is where the command, `serve` or the worker was started. Prefect changes the working directory of a run, and the
    variable `PWD` keeps the place; `BATCH_LLM_HOME` overrides both.
    """
    for name in ("BATCH_LLM_HOME", "PWD"):
        value = os.environ.get(name)
        if value and Path(value).is_dir():
            return Path(value)
    return Path.cwd()


def resolve(path: str) -> Path:
    """Return `path` as an absolute one."""
    return home() / Path(path).expanduser()
