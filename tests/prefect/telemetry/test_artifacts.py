"""Contents of a run's artifacts, which pure functions make."""

from __future__ import annotations

from dataclasses import replace

from batch_llm import BatchResult, ErrorInfo, Limits, WorkItemResult
from batch_llm.jobs import BatchJob, Progress, RunStats, Slice, SlowItem, Summary
from batch_llm.jobs.messages import duration, money, run_sentence, speed_line
from batch_llm.prefect.telemetry.artifacts import history, report, results_note, results_table, trend, verdict
from batch_llm.prefect.telemetry.artifacts.markdown import MOST_TEXT
from tests.support.past_runs import NOON, ordinary

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


def test_run_is_summarised_in_one_sentence() -> None:
    assert run_sentence(SUMMARY) == (
        "9,963 of 10,000 answered, 985 new, 12 changed, 3 retried, 9,000 reused, "
        "37 failed (31 content_filter, 6 timeout), $4.12 (saved $41.20), 18 min"
    )


def test_a_first_run_has_nothing_to_compare() -> None:
    first = replace(SUMMARY, new=10_000, changed=0, retried=0, reused=0, saved_usd=0.0, failed=0, categories={})
    assert run_sentence(first) == "9,963 of 10,000 answered, $4.12, 18 min"


def test_unknown_price_is_never_shown_as_zero() -> None:
    assert money(None) == "unpriced"
    assert money(0.0) == "$0.00"
    assert money(0.0106658) == "$0.0107"
    assert money(0.5) == "$0.500"
    assert money(0.00042) == "$0.000420"
    assert money(0.000091) == "$0.0000910"
    assert money(0.9996) == "$1.00"
    assert money(1234.5) == "$1,234.50"


def test_durations_are_readable() -> None:
    assert [duration(seconds) for seconds in (3.2, 89, 1080, 7200)] == ["3 s", "89 s", "18 min", "2.0 h"]


def test_table_has_a_row_per_item_with_equal_columns() -> None:
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
    order = ["item", "title", "tags", "status", "error", "attempts", "seconds", "tokens in", "tokens out", "cost"]
    assert [list(row) for row in rows] == [order] * 2
    assert rows[0]["status"] == "timeout"
    assert rows[0]["cost"] == "unpriced"
    assert len(rows[0]["error"]) == MOST_TEXT + 1
    assert rows[1] == {
        "item": "a",
        "status": "ok",
        "attempts": 1,
        "error": "",
        "title": "T",
        "tags": '["x", "y"]',
        "seconds": 1.23,
        "tokens in": 10,
        "tokens out": 2,
        "cost": "$0.500",
    }


def test_plain_answers_and_fields_with_our_names_have_columns_of_their_own() -> None:
    text = WorkItemResult[object, dict[str, object]](item_id="a", success=True, output="yes")
    fields = WorkItemResult[object, dict[str, object]](item_id="b", success=True, output={"status": "open"})
    (row,) = results_table(BatchResult(results=[text]))
    assert row["answer"] == "yes"
    assert "error" not in row, "nothing failed"
    (row,) = results_table(BatchResult(results=[fields]))
    assert (row["status"], row["answer: status"]) == ("ok", "open")


def test_untrusted_texts_are_short_and_without_markup() -> None:
    """Ids, answers, errors and field names cannot add images, links or HTML, and tables stay small."""
    active = "![x](http://h/leak) [y](javascript:z) <img src=http://h> www.h.org a@h.org [r]: http://h\x1b[2J "
    shown = r"![x\](http\://h/leak) [y\](javascript:z) \<img src=http\://h> www\.h.org a\@h.org [r\]: http\://h\\x1b[2J"
    good = WorkItemResult[object, dict[str, object]](item_id=active, success=True, output={"t": active, "x" * 999: 1})
    bad = WorkItemResult[object, dict[str, object]](item_id="x" * 100_000, success=False, error=active)
    first, second = results_table(BatchResult(results=[good, bad]))
    assert (first["item"], first["t"], second["error"]) == (shown, shown, shown)
    assert len(second["item"]) == MOST_TEXT + 1
    assert max(map(len, first)) <= 101
    assert shown in results_note(replace(SUMMARY, stopped=active))
    assert shown in verdict(JOB, replace(SUMMARY, stopped=active), [])


def test_note_above_the_table_has_the_path_of_the_output() -> None:
    note = results_note(SUMMARY)
    assert note.startswith("**9,963 of 10,000 answered")
    assert "`out.jsonl`" in note
    assert "`out.failures.jsonl`" in note
    assert "the first 500 of 10,000" in note


def test_report_has_failures_cost_and_files() -> None:
    stats = RunStats(
        "runs/1",
        tried_again=31,
        slowest=[SlowItem("doc-7", 12.5, 4.25, 3), SlowItem("a|b\n<i>", 11.5, 11.5, 1)],
        examples={"timeout": "no answer | in\n120 s"},
        slice_seconds=60,
        slices=[Slice(500, 30, 1.4, 2.8), Slice(463, 7, 1.6, 3.3)],
    )
    job = JOB.model_copy(update={"limits": Limits(tokens_per_minute=90_000)})
    summary = replace(
        SUMMARY,
        items_per_second=9.2,
        call_p50_seconds=1.5,
        call_p95_seconds=3.0,
        call_p99_seconds=9.9,
        wait_p50_seconds=0.0,
        wait_p95_seconds=41.0,
        total_attempts=1040,
        total_cached_input_tokens=308_642,
    )
    text = report(job, summary, stats, Progress(limit=48.21, rate_limits=6, paused_for=7.4))
    assert "| content_filter | 31 | 0.3% |" in text
    assert "| timeout | 6 | 0.1% | `no answer / in 120 s` |" in text, "a text must not break the table"
    assert "| model | attempts | tokens in |" in text, "an attempt that re-asks makes two calls, and is one"
    assert "| `openai-chat:gpt-4.1-mini` | 1,040 | 1,234,567 | 25% | 89 | **$4.12** | $4.12 | $41.20 |" in text
    assert "| 10,000 | 9,963 | 37 | 985 | 12 | 3 | 9,000 |" in text
    assert "| 9.2 items/s | 1.50 s | 3.00 s | 9.90 s | 0.00 s | 41.00 s | 31 |" in text
    assert speed_line(summary).startswith("9.2 items/s, latency 1.50 s (median), 3.00 s (95 %), waits 0.00 s"), (
        "as there"
    )
    assert "![Items in each 60 s; Latency in seconds](data:image/svg+xml;base64," in text
    assert "| `doc-7` | 12.50 s | 4.25 s | 3 |\n| `a/b <i>` | 11.50 s | 11.50 s | 1 |" in text, "nor must an id"
    assert "`out.failures.jsonl`" in text
    assert "| `openai-chat:gpt-4.1-mini` | 2,893 calls/min at the end | 6, cooldowns of 7 s in total | 90,000 |" in text


def test_a_limit_that_was_not_reached_is_not_reported_as_one() -> None:
    text = report(JOB, SUMMARY, RunStats("runs/1"), Progress(limit=26.0))
    assert "| not reached (at most 1,560 calls/min were tried) | none |" in text


def test_a_run_that_called_nothing_has_a_short_report() -> None:
    nothing = replace(SUMMARY, reused=10_000, succeeded=10_000, failed=0, categories={}, cost_usd=0.0)
    text = report(JOB, nothing, RunStats("runs/2"), Progress())
    assert "## Failures" not in text
    assert "## Speed" not in text
    assert "data:image" not in text


def test_verdict_has_success_and_trend() -> None:
    usual = [ordinary(cost_usd=4.0) for _ in range(6)]
    assert verdict(JOB, SUMMARY, []) == f"**Completed**: {run_sentence(SUMMARY)}"
    assert "No drift compared with the 6 full runs before" in verdict(JOB, SUMMARY, [*usual, ordinary(cost_usd=4.0)])
    worse = verdict(JOB, replace(SUMMARY, failed=2_000), [*usual, ordinary(cost_usd=6.0)])
    assert worse.startswith("**Failed**")
    assert "- cost per 1,000 items is $6.00, usually $4.00 (+50%)" in worse


def test_history_has_the_trend_and_a_row_per_run() -> None:
    runs = [ordinary(began=NOON, cost_usd=4.0), ordinary(began=NOON + 86_400, cost_usd=None, call_p95_seconds=None)]
    assert trend(runs[:1]) == ""
    assert trend(runs).startswith("![Cost of 1,000 items; Failed items; Latency in seconds; Output tokens per answer]")
    text = history(runs)
    assert "partial" not in text
    counts, speeds = text.split("## Speed and length")
    assert counts.splitlines()[4:6] == [
        "| 2026-11-25 12:00 | 990 of 1,000 | 1,000 | 10 (1.0%) | unpriced | unpriced | 18 min |",
        "| 2026-11-24 12:00 | 990 of 1,000 | 1,000 | 10 (1.0%) | $4.00 | $4.00 | 18 min |",
    ]
    assert speeds.splitlines()[-2:] == [
        "| 2026-11-25 12:00 | 1.0 items/s | 0.50 s |  | 50 |",
        "| 2026-11-24 12:00 | 1.0 items/s | 0.50 s | 1.20 s | 50 |",
    ]


def test_partial_runs_are_marked_and_not_in_the_trend() -> None:
    stopped = ordinary(began=NOON + 1, stopped="stopped by Ctrl-C", partial=True)
    runs = [ordinary(began=NOON), stopped, ordinary(called=2, answered=2, failed=0)]
    assert trend(runs) == "", "one full run has no trend"
    table = history(runs)
    assert table.count("| 2026-11-24 12:00 \\* |") == 4
    assert table.splitlines()[-1].startswith("\\* partial run")


def test_report_has_the_source_of_prices_and_the_use_of_budgets() -> None:
    budget = {"setting": "monthly_budget_usd", "scope": "month", "unit": "usd", "budget": 100.0, "spent": 4.117}
    page = report(JOB, replace(SUMMARY, priced_by="own prices", budgets=[budget]), RunStats("runs/2"), Progress())
    assert "- prices: own prices" in page
    assert "- monthly_budget_usd: $4.12 of $100.00 spent this month" in page
