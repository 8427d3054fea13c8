"""Runs of the command `batch-llm`, in a process of its own or, which is faster, in this one."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from batch_llm.cli import main

COMMAND = [sys.executable, "-c", "import sys; from batch_llm.cli import main; sys.exit(main())"]


def environment(folder: Path, **more: str) -> dict[str, str]:
    """Return variables of a user in `folder`, without a Prefect server except from `more`."""
    kept = {name: value for name, value in os.environ.items() if name not in ("BATCH_LLM_HOME", "PREFECT_API_URL")}
    return {**kept, "PWD": str(folder), "PREFECT_HOME": str(folder / "prefect"), **more}


def batch_llm(*arguments: str, folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the command and wait for its end."""
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=folder,
        env=environment(folder, **env),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def batch_llm_here(*arguments: str, folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the command in this process, which saves seconds if it starts no run."""
    out, error = io.StringIO(), io.StringIO()
    variables = environment(folder, **env)
    with (
        pytest.MonkeyPatch.context() as patch,
        _prefect_settings(variables),
        redirect_stdout(out),
        redirect_stderr(error),
    ):
        patch.chdir(folder)
        for name in os.environ.keys() - variables.keys():
            patch.delenv(name)
        for name, value in variables.items():
            patch.setenv(name, value)
        prefect_logger = logging.getLogger("prefect")
        patch.setattr(prefect_logger, "level", prefect_logger.level)  # the command makes it silent
        code = main(arguments)
    prefect_logger.setLevel(prefect_logger.level)  # and forgets what the loggers below it have cached
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), error.getvalue())


@contextmanager
def _prefect_settings(variables: dict[str, str]) -> Generator[None]:
    """Set Prefect's settings to those that a new process would read from the variables."""
    if "prefect" not in sys.modules:
        yield
        return
    from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings

    updates: dict[Any, Any] = {PREFECT_HOME: Path(variables["PREFECT_HOME"])}
    if url := variables.get("PREFECT_API_URL"):
        updates[PREFECT_API_URL] = url
    with temporary_settings(updates, restore_defaults=() if url else {PREFECT_API_URL}):
        yield
