"""Outcome of a run, one word in its event, tag and report, and its publication."""

from __future__ import annotations

from typing import Literal, TypeAlias

from batch_llm.jobs import BatchJob, Summary
from batch_llm.jobs.messages import run_sentence

from .events import RunEvents
from .tags import WITH_FAILURES, tag_run

Outcome: TypeAlias = Literal["completed", "failed", "stopped"]

OUTAGE = frozenset({"timeout", "connection", "server_error", "rate_limit"})
"""Failure categories of an outage of the provider, which a later retry can answer."""


def outcome_of(job: BatchJob, summary: Summary) -> Outcome:
    """Return the outcome of a run; "stopped" if it stopped before all items were tried."""
    if summary.stopped:
        return "stopped"
    return "failed" if summary.not_attempted or too_many_failed(job, summary) else "completed"


def too_many_failed(job: BatchJob, summary: Summary) -> bool:
    """Return whether more items failed than `failure_threshold` allows."""
    return summary.failed > job.failure_threshold * summary.total_items


def publish_outcome(job: BatchJob, summary: Summary, events: RunEvents) -> None:
    """Publish the outcome of a run as an event and as tags of the flow run."""
    outcome = outcome_of(job, summary)
    outage = sum(count for category, count in summary.categories.items() if category in OUTAGE)
    payload = {
        "message": run_sentence(summary),
        "total_items": summary.total_items,
        "succeeded": summary.succeeded,
        "failed": summary.failed,
        "failed_by_outage": outage,
        "categories": summary.categories,
        "reused": summary.reused,
        "truncated": summary.truncated,
        "not_attempted": summary.not_attempted,
        "total_input_tokens": summary.total_input_tokens,
        "total_output_tokens": summary.total_output_tokens,
        "cost_usd": summary.cost_usd,
        "seconds": round(summary.seconds, 1),
        "output": summary.output,
        "failures": summary.failures,
    }
    # Triggers match labels, not numbers. A run with only_failed gets no label: otherwise an outage of a day would
    # start 24 runs.
    again = {"batch-llm.left-by": "outage"} if outage and not job.only_failed else {}
    events.emit(f"run.{outcome}", payload, **again)
    tag_run(outcome, *([WITH_FAILURES] if summary.failed else []))
