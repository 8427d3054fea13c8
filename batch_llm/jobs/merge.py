"""Merge: from the ledger to the output, the failures file and the run's totals."""

from __future__ import annotations

from dataclasses import dataclass, field

from batch_llm.items import BatchResult

from .job import BatchJob
from .plan import Plan


@dataclass(frozen=True, slots=True)
class Summary:
    """The totals of a run.

    Attributes:
        total_items: Items of the source, broken rows included.
        succeeded: Items with an answer, reused ones included.
        failed: Items that failed, broken rows included.
        not_attempted: Items without a result, because the run stopped early.
        reused: Items answered by an earlier run.
        total_input_tokens: Of this run alone.
        total_output_tokens: Of this run alone.
        cost_usd: Of this run alone; None where the model's price is not known.
        seconds: From the plan to the end of the merge.
        output: Path of the output.
        failures: Path of the failures file; None when nothing failed.
        categories: Failures by category.
    """

    total_items: int
    succeeded: int
    failed: int
    not_attempted: int
    reused: int
    total_input_tokens: int
    total_output_tokens: int
    cost_usd: float | None
    seconds: float
    output: str
    failures: str | None
    categories: dict[str, int] = field(default_factory=dict[str, int])


def merge(job: BatchJob, plan: Plan) -> Summary:
    """Write the output, the failures file and summary.json, each whole or not at all."""
    raise NotImplementedError


def result_rows(job: BatchJob, folder: str, limit: int) -> BatchResult[object, dict[str, object]]:
    """Return up to `limit` results of a run, failures first, for a table."""
    raise NotImplementedError
