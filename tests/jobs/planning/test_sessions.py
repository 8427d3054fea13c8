"""Sessions that a run opens: each of them costs some 25 ms of CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pytest

from batch_llm.jobs import merge, plan
from tests.support.jobs import answer, job, write_lines


def test_a_plan_and_a_merge_open_one_session_each(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also with an earlier run, with which the source is compared, and with the sandbox of a query."""
    write_lines(home / "docs.jsonl", *({"id": number, "text": "t"} for number in range(3)))
    opened: list[Any] = []
    connect = duckdb.connect

    def counting(*arguments: Any, **settings: Any) -> duckdb.DuckDBPyConnection:
        opened.append(arguments)
        return connect(*arguments, **settings)

    monkeypatch.setattr(duckdb, "connect", counting)
    query = "SELECT * FROM 'docs.jsonl'"
    for run, source, expected in (("r1", "docs.jsonl", 1), ("r2", "docs.jsonl", 1), ("r3", query, 5)):
        made_for = job(source=source)
        opened.clear()
        made = plan(made_for, run)
        assert len(opened) == expected, "a query has two more for its check and one for each reading"
        answer(made_for, made)
        opened.clear()
        assert merge(made_for, made).succeeded == 3
        assert len(opened) == 1
