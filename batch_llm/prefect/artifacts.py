"""A run as artifacts: its results as a table, its story as markdown. Rows and text come from pure functions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from batch_llm.items import AnyResult, BatchResult
from batch_llm.jobs import BatchJob, Progress, RunStats, Summary, read_progress, result_rows, run_stats, scope_of
from batch_llm.jobs.sentences import duration, limit, money, run_sentence

MOST_ROWS = 500
"""Rows of the table artifact: a page of more is no pleasure, and the output file has all."""

MOST_TEXT = 300
"""Characters of one cell."""

Row = dict[str, Any]


def publish_results(job: BatchJob, folder: str, summary: Summary) -> None:
    """Persist the `BatchResult` as a table artifact, failures first."""
    result = result_rows(job, folder, MOST_ROWS)
    note = f"{run_sentence(summary)}. All items: `{summary.output}`"
    if summary.failures:
        note += f". The failures alone, a source for another run: `{summary.failures}`"
    if summary.total_items > MOST_ROWS:
        note += f". This table shows the first {MOST_ROWS:,} of {summary.total_items:,}, failures first"
    create_table_artifact(results_table(result), key=f"batch-llm-{job.name}-results", description=note)


def publish_report(job: BatchJob, folder: str, summary: Summary) -> None:
    """Persist the run's metrics as a markdown artifact."""
    text = report(job, summary, run_stats(job, folder), read_progress(folder))
    create_markdown_artifact(text, key=f"batch-llm-{job.name}-report", description=f"**{run_sentence(summary)}**")


def results_table(result: BatchResult[Any, Any]) -> list[Row]:
    """Return one row an item; every row has the same columns, and the wide ones come last."""
    rows = [_row(item) for item in result.results]
    answers = dict.fromkeys(column for item in result.results for column in _answer(item))
    return [
        {
            "item": row["item"],
            "status": row["status"],
            **{column: _cell(_answer(item).get(column)) for column in answers},
            **{column: row[column] for column in ("tokens in", "tokens out", "cost", "attempts", "seconds", "error")},
        }
        for item, row in zip(result.results, rows, strict=True)
    ]


def _row(item: AnyResult) -> Row:
    context = cast("Mapping[str, Any]", item.context or {})
    category = item.error_info.category if item.error_info else "failed"
    return {
        "item": item.item_id,
        "status": "ok" if item.success else category,
        "tokens in": item.token_usage.get("input_tokens", 0),
        "tokens out": item.token_usage.get("output_tokens", 0),
        "cost": money(context.get("cost_usd")),
        "attempts": item.attempts,
        "seconds": round(item.duration_seconds, 2),
        "error": _cell(item.error or ""),
    }


def _answer(item: AnyResult) -> Mapping[str, Any]:
    output: object = item.output
    if isinstance(output, dict):
        return cast("Mapping[str, Any]", output)
    return {} if output is None else {"answer": output}


def _cell(value: Any) -> Any:
    match value:
        case None:
            return ""
        case dict() | list():
            text = json.dumps(value, ensure_ascii=False, default=str)
        case str():
            text = value
        case _:
            return value
    return text if len(text) <= MOST_TEXT else f"{text[:MOST_TEXT]}…"


def report(job: BatchJob, summary: Summary, stats: RunStats, progress: Progress) -> str:
    """Return the run's page: what came out, what it cost, how fast it was, what failed."""
    parts = [_facts(job, summary), _speed(stats), _limit(job, progress)]
    if summary.failed:
        parts.append(_failures(summary, stats))
    if stats.slowest:
        parts.append(_table("Slowest items", ("item", "seconds", "attempts"), stats.slowest))
    files = [f"- output: `{summary.output}`"]
    if summary.failures:
        files.append(f"- failures, a source for another run: `{summary.failures}`")
    files.append(f"- everything the run knows: `{Path(stats.folder)}`")
    return "\n\n".join([*parts, "## Files\n\n" + "\n".join(files)])


def _facts(job: BatchJob, summary: Summary) -> str:
    return _table(
        "Outcome",
        ("model", job.model),
        [
            ("source", _code(job.source)),
            ("items", f"{summary.total_items:,}"),
            ("answered", f"{summary.succeeded:,}"),
            ("new", f"{summary.new:,}"),
            ("changed since an earlier run", f"{summary.changed:,}"),
            ("tried before without an answer", f"{summary.retried:,}"),
            ("reused from earlier runs", f"{summary.reused:,}"),
            ("failed", f"{summary.failed:,}"),
            ("not attempted", f"{summary.not_attempted:,}"),
            ("input tokens", f"{summary.total_input_tokens:,}"),
            ("output tokens", f"{summary.total_output_tokens:,}"),
            ("cost", money(summary.cost_usd)),
            ("saved by reused answers", money(summary.saved_usd)),
            ("time", duration(summary.seconds)),
        ],
    )


def _speed(stats: RunStats) -> str:
    return _table(
        "Speed",
        ("items a second", f"{stats.items_per_second:.2f}"),
        [
            ("seconds an item, median", f"{stats.p50_seconds:.2f}"),
            ("95 % of items within", f"{stats.p95_seconds:.2f}"),
            ("99 % of items within", f"{stats.p99_seconds:.2f}"),
            ("calls an item, on average", f"{stats.calls_per_item:.2f}"),
        ],
    )


def _limit(job: BatchJob, progress: Progress) -> str:
    said = [
        (name.replace("_", " "), f"{value:,.0f}") for name, value in asdict(job.limits).items() if value is not None
    ]
    found = f"{limit(progress.limit)} at the end" if progress.limit is not None else "nothing came near it"
    pauses = f"{progress.rate_limits:,}, for {duration(progress.paused_for)} in all" if progress.rate_limits else "none"
    return _table("Limit", ("scope", _code(scope_of(job))), [("in force", found), ("pauses by 429", pauses), *said])


def _failures(summary: Summary, stats: RunStats) -> str:
    rows = [
        (category, f"{count:,}", _code(stats.examples.get(category, "")))
        for category, count in sorted(summary.categories.items(), key=lambda pair: -pair[1])
    ]
    return _table("Failures", ("category", "items", "for example"), rows)


def _code(text: str) -> str:
    line = " ".join(text.split()).replace("`", "'").replace("|", "/")
    return f"`{line[:MOST_TEXT]}`" if line else ""


def _table(title: str, header: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    lines = [f"## {title}", "", f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
    return "\n".join([*lines, *(f"| {' | '.join(str(cell) for cell in row)} |" for row in rows)])
