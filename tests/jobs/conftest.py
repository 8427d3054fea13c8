"""Fixture of the jobs tests: a working folder."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a new folder the working directory, where relative paths of a job start."""
    monkeypatch.setenv("BATCH_LLM_HOME", str(tmp_path))
    return tmp_path
