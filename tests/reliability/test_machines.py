"""The short version of `python -m tests.reliability.machines`."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.reliability.kills import CHECKOUT
from tests.support.postgres import missing

COMMAND = "python -m tests.reliability.machines"


@pytest.mark.whole
@pytest.mark.skipif(bool(missing()), reason=missing())
def test_lost_machine_loses_only_calls_in_flight() -> None:
    """The other two finish its shards; every item has its answer."""
    assert f"uv run {COMMAND}\n" in (CHECKOUT / "tests" / "README.md").read_text()
    short = ["--items", "360", "--latency", "0.5", "--cut", "KILL"]
    done = subprocess.run(
        [sys.executable, *COMMAND.split()[1:], *short],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("holds") == 3
