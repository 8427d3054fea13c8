"""`python -m batch_llm` is the command `batch-llm`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.command import environment


@pytest.mark.sample(1)
@pytest.mark.parametrize(("argument", "code"), [("--version", 0), ("no-such-command", 2)])
def test_the_module_runs_the_command_and_returns_its_exit_code(tmp_path: Path, argument: str, code: int) -> None:
    command = [sys.executable, "-m", "batch_llm", argument]
    done = subprocess.run(command, cwd=tmp_path, env=environment(tmp_path), capture_output=True, check=False)
    assert done.returncode == code
