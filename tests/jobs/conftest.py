"""What the tests of the jobs layer share: a folder to work in."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Relative paths of a job start in a folder of the test's own."""
    monkeypatch.setenv("BATCH_LLM_HOME", str(tmp_path))
    return tmp_path
