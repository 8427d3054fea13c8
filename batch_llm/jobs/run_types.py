"""Values of a run that are passed between processes: the plan, its shards, their outcomes and the totals."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from batch_llm.errors import ErrorInfo
from batch_llm.jobs.budget_types import Spent
from batch_llm.pacing.token_estimate import TokenEstimate


@dataclass(frozen=True, slots=True)
class ShardRef:
    """Reference to a shard of a run, small enough to be sent to another process.

    Attributes:
        index: Number of the shard, from 0.
        first: Position of its first item in the source, from 1.
        last: Position of its last item in the source; items in between that have an answer are left out.
        items: Number of items in the shard.
        path: Path of the shard file: one line per item with its id, key and prompt.
        part: Name of the shard's files in the ledger, unique to the plan.
        lease: Number of the lease under which the run was planned; a later lease replaces it; 0 for none.
        claim: Number of the claim of the process that runs the shard; a later claim replaces it; 0 for none.
    """

    index: int
    first: int
    last: int
    items: int
    path: str
    part: str
    lease: int = 0
    claim: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """Plan of a run: what is reused from the ledger, and the shards with the items to call.

    Attributes:
        folder: Folder of the run.
        total: Items of the source, including broken rows.
        broken: Rows that cannot be sent; they fail without a call.
        answered: Items that this run answered before it was interrupted and planned again.
        reused: Items that another run answered.
        changed: Items that an earlier run called with another text, prompt, model, schema or setting.
        retried: Items that earlier runs called without getting an answer.
        left_out: Items without an answer that are not called, because only some items were selected.
        shards: Shards with the items to call.
        notes: Sentences for the user, such as renamed columns or the number of broken rows.
        canary: The canary of the run; if it has items, it is the first shard.
        warnings: Sentences about possible problems, such as a source that has become much smaller.
        refreshed: Items that are called again although an earlier run answered them.
        refreshes: Ids of the interrupted runs whose refresh this run continues; None if the job does not refresh.
        lease: Number of the lease under which the plan was made; 0 for none.
        limit: The job's limit, the number of rows of the source that are processed; None for all.
    """

    folder: str
    total: int
    broken: int
    answered: int
    reused: int
    changed: int
    retried: int
    left_out: int
    shards: tuple[ShardRef, ...]
    notes: tuple[str, ...]
    canary: Canary
    warnings: tuple[str, ...] = ()
    refreshed: int = 0
    refreshes: tuple[str, ...] | None = None
    lease: int = 0
    limit: int | None = None

    @property
    def new(self) -> int:
        """Number of items that no earlier run called."""
        return self.total - self.broken - self.reused - self.changed - self.retried - self.refreshed


@dataclass(frozen=True, slots=True)
class ShardOutcome:
    """Outcome of a shard; counts include all its items and earlier attempts of the shard.

    Attributes:
        index: Number of the shard, from 0.
        items: Number of items in the shard.
        succeeded: Items with an answer.
        failed: Items that failed.
        not_attempted: Items without a result, because the shard stopped early.
        input_tokens: Input tokens of all calls.
        output_tokens: Output tokens of all calls.
        cost_usd: Cost of all calls in USD; None if the model's price is not known.
        seconds: Duration of this attempt of the shard.
        categories: Number of failures by category.
        unfinished: Reason for unfinished items: retryable if another attempt could answer them, not retryable for a
            fatal error that stopped the shard; None if nothing is left to retry.
        unfinished_text: The reason as a sentence.
        left: Items that another attempt could answer.
        stopped: Whether the run was asked to stop.
        wanting: Expected cost of the next call, if the shard's share of the budget was too small for it.
        estimate: Usage of the job's calls as measured in this shard, if there is a budget.
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
    left: int = 0
    stopped: bool = False
    wanting: Spent | None = None
    estimate: TokenEstimate | None = None


class CanaryCounts(Protocol):
    """Counts of a canary that is running, such as a `ShardProgress`.

    Attributes:
        succeeded: Items with an answer.
        cost_usd: Cost of all calls so far in USD; None if the model's price is not known.
    """

    succeeded: int
    cost_usd: float | None


MAX_COST_RATIO = 3
"""A canary that costs more than this multiple of the expected cost stops the run."""


@dataclass(frozen=True, slots=True)
class Canary:
    """The first items of a new or changed job, which are called before all others.

    Attributes:
        shape: Hash of everything that influences the job's answers: prompt, instructions, model, settings, schema.
        items: Items of the first shard, which runs alone; 0 for no canary.
        cost_usd: Expected cost of these items in USD; None if it is not known.
    """

    shape: str
    items: int
    cost_usd: float | None = None

    def too_many_failed(self, failed: int, threshold: float) -> bool:
        """Return whether the share of failed items is above `threshold`."""
        return failed > threshold * self.items

    def has_passed(self, progress: CanaryCounts, threshold: float) -> bool:
        """Return whether the canary passes whatever happens to its items that have no answer yet.

        They may all fail without exceeding `threshold`, and each may cost `MAX_COST_RATIO` times as much as an answered
        item without exceeding the expected cost too far.
        """
        missing = self.items - progress.succeeded
        if self.too_many_failed(missing, threshold):
            return False
        if not self.cost_usd:
            return True
        spent = progress.cost_usd or 0.0
        each = max(spent / max(1, progress.succeeded), self.cost_usd / self.items)
        return not self.too_expensive(spent + MAX_COST_RATIO * missing * each)

    def too_expensive(self, cost_usd: float | None) -> bool:
        """Return whether the canary cost more than `MAX_COST_RATIO` times the expected cost, if both are known."""
        return bool(self.cost_usd) and (cost_usd or 0.0) > MAX_COST_RATIO * (self.cost_usd or 0.0)

    def passed(self, tried: int, failed: int, threshold: float) -> bool:
        """Return whether a run called more items than its canary with few enough failures; no canary is needed then."""
        return tried > self.items and failed <= threshold * tried


@dataclass(frozen=True, slots=True)
class Summary:
    """The totals of a run.

    Attributes:
        total_items: Items of the source, including broken rows.
        succeeded: Items with an answer, including reused answers.
        failed: Items that failed, including broken rows.
        not_attempted: Items without a result, because the run stopped early.
        left_out: Items without a result, because only failed or only truncated items were selected.
        reused: Items answered by an earlier run.
        new: Items that no earlier run called.
        changed: Items that an earlier run called with another text, prompt, model, schema or setting.
        retried: Items that earlier runs called without getting an answer.
        total_input_tokens: Input tokens of this run.
        total_output_tokens: Output tokens of this run.
        cost_usd: Cost of this run in USD; None if the model's price is not known.
        saved_usd: Original cost of the reused answers in USD; None if one of them has no price.
        seconds: Duration from the plan to the end of the merge.
        output: Path of the output.
        failures: Path of the failures file; None if nothing failed.
        categories: Number of failures by category.
        stopped: Reason why the run stopped early; empty if it did not.
        p50_seconds: Median duration of the items that this run called, including waits and retries; None if it called
            none. Computed from a digest of a few kilobytes: with millions of items the error is below 1 %.
        p95_seconds: 95th percentile of the same durations, with the same accuracy.
        total_cached_input_tokens: Input tokens of this run that were read from the provider's cache.
        priced_by: Source of the prices with its version; empty if there are no prices.
        kept: Path of the output of the last complete run, if this run is not complete and did not replace it; else
            empty.
        budgets: Each budget of the job: setting, scope (run, month), unit (usd, tokens), budget, spent, left.
        warnings: Sentences about possible problems, such as a source that has become much smaller.
        refreshed: Items that were called again although an earlier run had answered them.
        truncated: Items with an answer that was cut off at the token limit, including items that failed because of it;
            None for runs of earlier versions.
        total_estimated_tokens: Tokens of this run that are estimated, because the provider reported no usage.
        notes: Sentences about the accuracy of the totals.
        items_per_second: Items that this run called, per second between the start of its first call and the end of its
            last call; None if it called none, or for runs of earlier versions, as for the following quantiles.
        call_p50_seconds: Median latency. The latency of an item is the duration of its last call, without waits.
        call_p95_seconds: 95th percentile of the latency.
        call_p99_seconds: 99th percentile of the latency.
        wait_p50_seconds: Median of the rest of an item's time: waits for limits and cooldowns, and retries.
        wait_p95_seconds: 95th percentile of this rest.
        total_attempts: Calls of this run, including retries and rate-limited calls; a re-ask is part of its call.
        lanes: Items that this run called by the service tier that answered, if any was not the standard tier: lane
            (online, flex), items, cost_usd and saved_usd, compared with the standard prices.
    """

    total_items: int
    succeeded: int
    failed: int
    not_attempted: int
    left_out: int
    reused: int
    new: int
    changed: int
    retried: int
    total_input_tokens: int
    total_output_tokens: int
    cost_usd: float | None
    saved_usd: float | None
    seconds: float
    output: str
    failures: str | None
    categories: dict[str, int] = field(default_factory=dict[str, int])
    stopped: str = ""
    p50_seconds: float | None = None
    p95_seconds: float | None = None
    total_cached_input_tokens: int = 0
    priced_by: str = ""
    budgets: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    kept: str = ""
    refreshed: int = 0
    truncated: int | None = None
    warnings: list[str] = field(default_factory=list[str])
    total_estimated_tokens: int = 0
    notes: list[str] = field(default_factory=list[str])
    items_per_second: float | None = None
    call_p50_seconds: float | None = None
    call_p95_seconds: float | None = None
    call_p99_seconds: float | None = None
    wait_p50_seconds: float | None = None
    wait_p95_seconds: float | None = None
    total_attempts: int = 0
    lanes: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
