"""The command in a process of its own, as a user gives it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

COMMAND = [sys.executable, "-c", "import sys; from batch_llm.cli import main; sys.exit(main())"]


def environment(folder: Path, **more: str) -> dict[str, str]:
    """Return variables for a user who is in `folder` and has no Prefect server named but in `more`."""
    kept = {name: value for name, value in os.environ.items() if name not in ("BATCH_LLM_HOME", "PREFECT_API_URL")}
    return {**kept, "PWD": str(folder), "PREFECT_HOME": str(folder / "prefect"), **more}


def batch_llm(*arguments: str, folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Give the command and wait for its end."""
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=folder,
        env=environment(folder, **env),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
