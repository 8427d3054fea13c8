"""What the artifacts of a run show; made by pure functions."""

from __future__ import annotations

from dataclasses import replace

from batch_llm import BatchResult, ErrorInfo, Limits, WorkItemResult
from batch_llm.jobs import BatchJob, Progress, RunStats, Summary
from batch_llm.jobs.sentences import duration, money, run_sentence
from batch_llm.prefect.artifacts import MOST_TEXT, report, results_table

JOB = BatchJob.parse(
    {
        "name": "tickets",
        "source": "a|b.csv",
        "prompt": "{text}",
        "output": "out.jsonl",
        "model": "openai-chat:gpt-4.1-mini",
    }
)
SUMMARY = Summary(
    total_items=10_000,
    succeeded=9_963,
    failed=37,
    not_attempted=0,
    left_out=0,
    reused=9_000,
    new=985,
    changed=12,
    retried=3,
    total_input_tokens=1_234_567,
    total_output_tokens=89,
    cost_usd=4.117,
    saved_usd=41.2,
    seconds=1080,
    output="out.jsonl",
    failures="out.failures.jsonl",
    categories={"timeout": 6, "content_filter": 31},
)


def test_the_run_is_told_in_one_sentence() -> None:
    assert run_sentence(SUMMARY) == (
        "9,963 of 10,000 answered, 985 new, 12 changed, 3 retried, 9,000 reused, "
        "37 failed (31 content_filter, 6 timeout), $4.12 (saved $41.20), 18 min"
    )


def test_a_first_night_has_nothing_to_compare() -> None:
    first = replace(SUMMARY, new=10_000, changed=0, retried=0, reused=0, saved_usd=0.0, failed=0, categories={})
    assert run_sentence(first) == "9,963 of 10,000 answered, $4.12, 18 min"


def test_a_price_that_is_not_known_is_never_zero() -> None:
    assert money(None) == "unpriced"
    assert money(0.0) == "$0.00"
    assert money(0.00042) == "$0.00042"
    assert money(0.000091) == "$0.000091"
    assert money(1234.5) == "$1,234.50"


def test_durations_are_told_as_people_say_them() -> None:
    assert [duration(seconds) for seconds in (3.2, 89, 1080, 7200)] == ["3 s", "89 s", "18 min", "2.0 h"]


def test_table_has_a_row_an_item_and_the_same_columns_in_each() -> None:
    good = WorkItemResult[object, dict[str, object]](
        item_id="a",
        success=True,
        output={"title": "T", "tags": ["x", "y"]},
        token_usage={"input_tokens": 10, "output_tokens": 2},
        context={"cost_usd": 0.5},
        attempts=1,
        duration_seconds=1.234,
    )
    bad = WorkItemResult[object, dict[str, object]](
        item_id="b",
        success=False,
        error="x" * 1000,
        context={"cost_usd": None},
        error_info=ErrorInfo(is_retryable=True, category="timeout"),
        attempts=3,
    )
    rows = results_table(BatchResult(results=[bad, good]))
    assert [list(row) for row in rows] == [list(rows[0])] * 2
    assert rows[0]["status"] == "timeout"
    assert rows[0]["cost"] == "unpriced"
    assert len(rows[0]["error"]) == MOST_TEXT + 1
    assert rows[1] == {
        "item": "a",
        "status": "ok",
        "title": "T",
        "tags": '["x", "y"]',
        "tokens in": 10,
        "tokens out": 2,
        "cost": "$0.50",
        "attempts": 1,
        "seconds": 1.23,
        "error": "",
    }


def test_report_names_totals_failures_and_files() -> None:
    stats = RunStats("runs/1", 9.2, 1.5, 3.0, 9.9, 1.04, [("doc-7", 12.5, 3)], {"timeout": "no answer | in\n120 s"})
    job = JOB.model_copy(update={"limits": Limits(tokens_per_minute=90_000)})
    text = report(job, SUMMARY, stats, Progress(limit=48.21, rate_limits=6, paused_for=7.4))
    assert "| answered | 9,963 |" in text
    assert "| cost | $4.12 |" in text
    assert "| content_filter | 31 |" in text
    assert "`no answer / in 120 s`" in text, "a text must not break the table"
    assert "| doc-7 | 12.5 | 3 |" in text
    assert "`out.failures.jsonl`" in text
    assert "| scope | `openai-chat:gpt-4.1-mini` |" in text
    assert "| in force | 2,893 calls/min at the end |" in text
    assert "| pauses by 429 | 6, for 7 s in all |" in text
    assert "| tokens per minute | 90,000 |" in text
