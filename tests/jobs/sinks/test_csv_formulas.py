"""Escaping of values that a spreadsheet would run as formulas."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from batch_llm.errors import JobError
from batch_llm.jobs import merge, plan
from tests.support.jobs import answer, job, whole_run, write_lines

FORMULAS = ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "=a\nb", "\uff1d1+1"]
TEXTS = ["-5", "+49.5", "-1,234.5", "1e-3", "-3%", "a=b", "", " - x", "'=1"]


def _cells(home: Path, **settings: Any) -> list[list[str]]:
    made_for = job(output="out.csv", **settings)
    answer(made_for, made := plan(made_for, "r"))
    merge(made_for, made)
    with (home / "out.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_formulas_are_escaped_if_configured(home: Path) -> None:
    """In values and column names; numbers stay numbers, and lists are not formulas."""
    rows = [{"id": f"i{at}", "text": "t", "=x": cell, "n": -at} for at, cell in enumerate([*FORMULAS, *TEXTS])]
    write_lines(home / "docs.jsonl", *rows)
    header, *cells = _cells(home, csv_formulas="escape")
    assert header[:4] == ["id", "text", "'=x", "n"]
    assert [row[2] for row in cells] == [*(f"'{formula}" for formula in FORMULAS), *TEXTS]
    assert [row[3] for row in cells] == [str(-at) for at, _ in enumerate(rows)]


def test_failures_are_escaped_in_the_columns_that_partition_the_output(home: Path) -> None:
    """The file of the failures has no folders, so these columns are cells as all others."""
    write_lines(home / "docs.jsonl", {"id": 1, "text": "t", "topic": "=1+1"}, {"id": 2, "text": "t", "topic": "plain"})
    whole_run("r", fail="1", output="out.csv", partition_by=["topic"], csv_formulas="escape")
    (row,) = csv.DictReader((home / "out.failures.csv").read_text().splitlines())
    assert (row["item_id"], row["topic"]) == ("1", "'=1+1")


def test_values_stay_as_they_are_by_default(home: Path) -> None:
    """So that programs read the original values."""
    write_lines(home / "docs.jsonl", *({"id": f"i{at}", "text": cell} for at, cell in enumerate(FORMULAS)))
    assert [row[1] for row in _cells(home)[1:]] == FORMULAS
    with pytest.raises(JobError, match="csv_formulas"):
        job(csv_formulas="drop")
