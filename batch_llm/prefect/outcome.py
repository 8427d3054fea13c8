"""How a run ended, in the one word that its event, its tag and its report share."""

from __future__ import annotations

from typing import Literal, TypeAlias

from batch_llm.jobs import BatchJob, Summary

Outcome: TypeAlias = Literal["completed", "failed", "stopped"]


def outcome_of(job: BatchJob, summary: Summary) -> Outcome:
    """Return how a run ended: "stopped" where somebody or something ended it before all items were tried."""
    if summary.stopped:
        return "stopped"
    return "failed" if summary.not_attempted or too_many_failed(job, summary) else "completed"


def too_many_failed(job: BatchJob, summary: Summary) -> bool:
    """Whether more items failed than the job allows."""
    return summary.failed > job.failure_threshold * summary.total_items
