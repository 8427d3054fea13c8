"""How a run ended, in the one word that its event, its tag and its report share; and telling so."""

from __future__ import annotations

from typing import Literal, TypeAlias

from batch_llm.jobs import BatchJob, Summary
from batch_llm.jobs.messages import run_sentence

from .events import RunEvents
from .tags import WITH_FAILURES, tag_run

Outcome: TypeAlias = Literal["completed", "failed", "stopped"]

OUTAGE = frozenset({"timeout", "connection", "server_error", "rate_limit"})
"""Failures that are the provider's, and pass with it."""


def outcome_of(job: BatchJob, summary: Summary) -> Outcome:
    """Return how a run ended: "stopped" where somebody or something ended it before all items were tried."""
    if summary.stopped:
        return "stopped"
    return "failed" if summary.not_attempted or too_many_failed(job, summary) else "completed"


def too_many_failed(job: BatchJob, summary: Summary) -> bool:
    """Whether more items failed than the job allows."""
    return summary.failed > job.failure_threshold * summary.total_items


def publish_outcome(job: BatchJob, summary: Summary, events: RunEvents) -> None:
    """Tell how a run ended, as an event and as tags of the flow run."""
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
    # A trigger can ask for a label, not for a number. A run of what failed is not followed by another: else an outage
    # of a day would be 24 runs.
    again = {"batch-llm.left-by": "outage"} if outage and not job.only_failed else {}
    events.emit(f"run.{outcome}", payload, **again)
    tag_run(outcome, *([WITH_FAILURES] if summary.failed else []))
