"""One shard: its file through the engine, each result into the ledger."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from batch_llm.errors import ErrorInfo
from batch_llm.strategies.base import LLMCallStrategy

from .job import BatchJob
from .plan import ShardRef


@dataclass(frozen=True, slots=True)
class ShardOutcome:
    """What became of a shard; counts are over all its items, earlier tries included.

    Attributes:
        not_attempted: Items without a result, because the shard stopped early.
        cost_usd: None where the model's price is not known.
        seconds: How long this try took.
        categories: Failures by category.
        unfinished: Why items are left that another try could answer (then `is_retryable`), or the fatal reason for
            which the shard stopped (then not); None when nothing is left to try.
        unfinished_text: The same as a sentence.
        stopped: Whether somebody asked the run to stop.
    """

    index: int
    items: int
    succeeded: int
    failed: int
    not_attempted: int
    input_tokens: int
    output_tokens: int
    cost_usd: float | None
    seconds: float
    categories: dict[str, int] = field(default_factory=dict[str, int])
    unfinished: ErrorInfo | None = None
    unfinished_text: str = ""
    stopped: bool = False


async def run_shard(
    job: BatchJob,
    folder: str,
    shard: ShardRef,
    *,
    observers: Sequence[Any] = (),
    strategy: Callable[[], LLMCallStrategy[Any]] | None = None,
    retry_failed: bool = True,
) -> ShardOutcome:
    """Answer what is missing of one shard.

    Args:
        job: The job.
        folder: The run's folder, from the plan.
        shard: Which shard.
        observers: Told of the engine's events.
        strategy: Makes the strategy, here in this process; None for the job's model.
        retry_failed: Whether items that failed in an earlier try, for a reason that can pass, are called again.
    """
    raise NotImplementedError
