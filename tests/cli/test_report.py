"""The report of a finished run, for people and for programs."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from batch_llm.cli.terminal.report import RunOutcome, as_json, print_outcome
from batch_llm.cli.terminal.screen import Screen
from batch_llm.errors import ErrorInfo
from batch_llm.items import WorkItemResult
from batch_llm.jobs import Summary

pytestmark = pytest.mark.shell

URL = "http://127.0.0.1:4200/runs/flow-run/abc"
SUMMARY = Summary(
    total_items=30,
    succeeded=29,
    failed=1,
    not_attempted=0,
    left_out=0,
    reused=4,
    new=26,
    changed=0,
    retried=0,
    total_input_tokens=1000,
    total_output_tokens=50,
    cost_usd=0.5,
    saved_usd=0.25,
    seconds=12.5,
    output="/data/out.jsonl",
    failures="/data/out.failures.jsonl",
    categories={"timeout": 1},
    total_attempts=26,
    items_per_second=2.5,
    call_p50_seconds=0.8,
    call_p95_seconds=1.5,
    call_p99_seconds=2.0,
    wait_p50_seconds=0.1,
    wait_p95_seconds=0.7,
)
FAILED: WorkItemResult[Any, Any] = WorkItemResult(
    item_id="doc-7", success=False, error="no answer [in time]", error_info=ErrorInfo(True, category="timeout")
)


def answered(item: str, output: Any) -> WorkItemResult[Any, Any]:
    usage = {"input_tokens": 1200, "output_tokens": 34}
    return WorkItemResult(item_id=item, success=True, output=output, token_usage=usage, duration_seconds=1.26)


def printed(capsys: pytest.CaptureFixture[str], *results: WorkItemResult[Any, Any]) -> list[str]:
    print_outcome(Screen(), RunOutcome(SUMMARY, results, URL, "completed", ""))
    return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]


def test_json_is_one_object_with_the_documented_names() -> None:
    assert json.loads(as_json(RunOutcome(SUMMARY, [], URL, "completed", "29 of 30 answered"))) == {
        "state": "completed",
        "message": "29 of 30 answered",
        "total_items": 30,
        "succeeded": 29,
        "failed": 1,
        "not_attempted": 0,
        "categories": {"timeout": 1},
        "reused": 4,
        "new": 26,
        "changed": 0,
        "retried": 0,
        "left_out": 0,
        "refreshed": 0,
        "truncated": None,
        "total_input_tokens": 1000,
        "total_cached_input_tokens": 0,
        "total_output_tokens": 50,
        "total_estimated_tokens": 0,
        "cost_usd": 0.5,
        "priced_by": "",
        "total_attempts": 26,
        "items_per_second": 2.5,
        "call_p50_seconds": 0.8,
        "call_p95_seconds": 1.5,
        "call_p99_seconds": 2.0,
        "wait_p50_seconds": 0.1,
        "wait_p95_seconds": 0.7,
        "saved_usd": 0.25,
        "lanes": [],
        "budgets": [],
        "seconds": 12.5,
        "notes": [],
        "warnings": [],
        "output": "/data/out.jsonl",
        "failures": "/data/out.failures.jsonl",
        "flow_run_url": URL,
    }


def test_the_report_has_rows_totals_files_and_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys, FAILED, answered("doc-1", {"title": "A ferry", "summary": "It [red]runs[/red] daily."}))
    assert lines[0] == "item title summary tokens seconds"
    assert lines[1] == "doc-7 timeout no answer [in time] 0 0.00"
    assert lines[2] == "doc-1 A ferry It [red]runs[/red] daily. 1,234 1.26"
    assert "... and 28 more items in the output" in lines
    assert any(
        line.startswith("29 of 30 answered, 26 new, 4 reused, 1 failed (1 timeout), $0.500 (saved $0.250)")
        for line in lines
    )
    speed = "2.5 items/s, latency 0.80 s (median), 1.50 s (95 %), waits 0.10 s (median), 0.70 s (95 %)"
    assert f"Speed: {speed}." in lines
    assert lines[-3:] == ["output /data/out.jsonl", "failures /data/out.failures.jsonl", f"page {URL}"]


def test_plain_text_answers_have_a_column_of_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys, answered("a", "yes,\nindeed"))
    assert lines[:2] == ["item answer tokens seconds", "a yes, indeed 1,234 1.26"]


def test_long_answers_and_lists_are_cut(capsys: pytest.CaptureFixture[str]) -> None:
    text = " ".join(printed(capsys, answered("a", {"people": ["Ann", "Bo"], "story": "word " * 200})))
    assert '["Ann", "Bo"]' in text
    assert "…" in text
    assert text.count("word") < 30


def test_failures_alone_are_a_table_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert "doc-7 timeout no answer [in time] 0 0.00" in printed(capsys, FAILED)


def test_control_characters_do_not_reach_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """They may be in ids, answers, field names, errors and the reason for stopping."""
    bad = "\x1b]0;title\x07\x9b2J\u202e"
    failed: WorkItemResult[Any, Any] = WorkItemResult(
        item_id=bad, success=False, error=bad, error_info=ErrorInfo(True, category=bad)
    )
    print_outcome(Screen(), RunOutcome(replace(SUMMARY, stopped=bad), [answered("a", {bad: bad}), failed], URL, "", ""))
    Screen().out.print(bad)
    Screen().out.print(f"[bold]{bad}[/bold]", bad)
    shown = capsys.readouterr().out
    assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(shown)
    assert shown.count("\\x1b]0;title") >= 6
