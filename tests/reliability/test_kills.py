"""The short version of `python -m tests.reliability.kills`."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.reliability.kills import CHECKOUT

COMMAND = "python -m tests.reliability.kills"


@pytest.mark.whole
@pytest.mark.parametrize(("kills", "items"), [(1, 40), (4, 160)])
def test_repeatedly_killed_batch_loses_no_answer(kills: int, items: int) -> None:
    """Every item gets its own answer, and only calls in flight at a kill are made twice."""
    assert f"uv run {COMMAND}\n" in (CHECKOUT / "tests" / "README.md").read_text()
    command = [sys.executable, *COMMAND.split()[1:], "--kills", f"{kills}", "--items", f"{items}"]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("holds") == 4
