"""A run as artifacts: its results as a table, its story and its history as markdown.

Rows, text and pictures come from pure functions, one file an artifact; here they are published.
"""

from __future__ import annotations

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from batch_llm.jobs import BatchJob, Summary, job_store, read_past_runs, read_progress, result_rows, run_stats

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


def publish_results(job: BatchJob, folder: str, summary: Summary) -> None:
    """Persist the `BatchResult` as a table artifact, failures first."""
    rows = results_table(result_rows(job, folder, MOST_ROWS))
    create_table_artifact(rows, key=f"batch-llm-{job.name}-results", description=results_note(summary))


def publish_report(job: BatchJob, folder: str, summary: Summary) -> None:
    """Persist the run's metrics, and those of the runs before it beside them, as markdown artifacts."""
    nights = read_past_runs(job_store(job))
    text = report(job, summary, run_stats(job, folder), read_progress(folder))
    create_markdown_artifact(text, key=f"batch-llm-{job.name}-report", description=verdict(job, summary, nights))
    # The page of a key shows the latest description, not what is in it: there the trend is to be seen.
    key = f"batch-llm-{job.name}-history"
    create_markdown_artifact(history(nights), key=key, description=trend(nights) or "The first run")
