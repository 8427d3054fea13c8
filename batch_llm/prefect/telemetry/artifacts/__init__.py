"""Artifacts of a run: results as a table, report and history as markdown.

Pure functions return rows, text and charts, one file per artifact; this module publishes them.
"""

from __future__ import annotations

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from batch_llm.jobs import BatchJob, RunFolder, Summary, read_past_runs, read_progress, result_rows, run_stats

from .history import history, trend
from .report import report, verdict
from .results import MOST_ROWS, results_note, results_table

__all__ = [
    "history",
    "publish_report",
    "publish_results",
    "report",
    "results_note",
    "results_table",
    "trend",
    "verdict",
]


def publish_results(job: BatchJob, run: RunFolder, summary: Summary) -> None:
    """Publish the results as a table artifact, failures first."""
    rows = results_table(result_rows(run, MOST_ROWS))
    create_table_artifact(rows, key=f"batch-llm-{job.name}-results", description=results_note(summary))


def publish_report(job: BatchJob, run: RunFolder, summary: Summary) -> None:
    """Publish the report of the run and the history of its job as markdown artifacts."""
    runs = read_past_runs(run.runs)
    text = report(job, summary, run_stats(run), read_progress(run.path))
    create_markdown_artifact(text, key=f"batch-llm-{job.name}-report", description=verdict(job, summary, runs))
    # The page of a key shows the latest description, not the content: so the description has the trend.
    key = f"batch-llm-{job.name}-history"
    create_markdown_artifact(history(runs), key=key, description=trend(runs) or "The first run")
