"""Warning about a source that has lost rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from batch_llm.jobs import BatchJob, Summary, merge, plan
from tests.support.jobs import age, answer, job, leased_runs, write_lines


def _run(home: Path, rows: int, run: str, *, stopped: str = "", **settings: Any) -> Summary:
    made_for: BatchJob = job(**{"source": "docs.jsonl", **settings})
    write_lines(home / made_for.source, *({"id": number, "text": "t"} for number in range(rows)))
    made = plan(made_for, run)
    answer(made_for, made)
    return merge(made_for, made, stopped=stopped)


def test_source_with_a_tenth_fewer_rows_causes_a_warning(home: Path) -> None:
    """The run is compared with the last complete one; stopped and limited runs do not count."""
    assert _run(home, 100, "run-1").warnings == []
    assert _run(home, 90, "run-2").warnings == []
    _run(home, 10, "run-3", stopped="the budget is gone")
    _run(home, 90, "run-4", limit=5)
    (warning,) = _run(home, 80, "run-5").warnings
    expected = (
        "The source has 80 rows, 11% fewer than the 90 of the last complete run (run-2): check that it is complete"
    )
    assert warning == expected
    assert _run(home, 80, "run-6").warnings == []


def test_last_complete_run_is_that_of_the_last_lease(home: Path) -> None:
    """The clock of its machine may have been behind."""
    write_lines(home / "docs.jsonl", *({"id": number, "text": "t"} for number in range(100)))
    leased_runs(job(), first=1)
    write_lines(home / "docs.jsonl", *({"id": number, "text": "t"} for number in range(50)))
    second = plan(job(), "second", lease=2)
    age(job(), "second", 10)
    merge(job(), second)
    assert plan(job(), "third", lease=3).warnings == ()


@pytest.mark.parametrize(
    ("before", "now", "is_told"),
    [("docs-2026-11-27.jsonl", "docs-2026-11-28.jsonl", True), ("docs.jsonl", "others.jsonl", False)],
)
def test_exports_of_different_days_are_compared(home: Path, before: str, now: str, is_told: bool) -> None:
    """Other sources are not compared."""
    _run(home, 100, "run-1", source=before)
    assert bool(_run(home, 50, "run-2", source=now).warnings) == is_told
