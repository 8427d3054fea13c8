"""Folders for temporary files."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from batch_llm.jobs.storage.duckdb_session import open_tables


def test_a_session_removes_the_folders_of_killed_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders of sessions that are open, and of other programs, stay."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for name in ("batch-llm-session-killed", "batch-llm-of-another-program"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "spilled").write_text("rows")
    with open_tables():
        (open_one,) = set(tmp_path.iterdir()) - {tmp_path / "batch-llm-of-another-program"}
        with open_tables():
            assert open_one.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["batch-llm-of-another-program"]
