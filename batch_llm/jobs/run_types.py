"""Values of a run that travel between processes: the plan, its shards, their outcomes, and the totals."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from batch_llm.errors import ErrorInfo
from batch_llm.jobs.amounts import Spent
from batch_llm.pacing.token_estimate import TokenEstimate


@dataclass(frozen=True, slots=True)
class ShardRef:
    """A part of a run, small enough to travel to another process.

    Attributes:
        index: Its number, from 0.
        first: Position in the source of its first item, from 1.
        last: Position in the source of its last item; items between that have an answer are left out.
        items: Items in it.
        path: The shard file: one line an item with its id, key and prompt.
        part: Names the shard's files in the ledger; no two plans have the same ones.
        lease: The lease under which the run was planned, which is over when there is a later one; 0 for none.
        claim: The claim under which a carrier has it, which is over when there is a later one; 0 for none.
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
    """What a run will do.

    Attributes:
        folder: The run's folder.
        total: Items of the source, broken rows included.
        broken: Rows that cannot be sent; they fail by themselves and cost nothing.
        answered: Items that this run itself has answered, before it was cut short and planned anew.
        reused: Items that another run has answered.
        changed: Items that an earlier run has met with another text, prompt, model, shape or setting.
        retried: Items that earlier runs have met and not answered.
        left_out: Items without an answer that are not called, for only those that failed were asked for.
        shards: What is to be answered.
        notes: Sentences for the reader: renamed columns, broken rows.
        canary: What runs before all else; the first shard, if it has items.
        warnings: Sentences on what may be wrong with the source.
        refreshed: Items that are asked again although earlier runs have answered them.
        refreshes: The interrupted runs whose refresh this one goes on with; None where nothing is refreshed.
        lease: The lease under which it was made; 0 for none.
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

    @property
    def new(self) -> int:
        """Items that no earlier run has met."""
        return self.total - self.broken - self.reused - self.changed - self.retried - self.refreshed


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
        wanting: What the next call would have cost, for which the shard's share of the budget was too small.
        estimate: What its answers have taught of the job's calls, where there is a budget.
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
    wanting: Spent | None = None
    estimate: TokenEstimate | None = None


MAX_COST_RATIO = 3


@dataclass(frozen=True, slots=True)
class Canary:
    """What runs before all else.

    Attributes:
        shape: Names the job by all that shapes its answers: prompt, instructions, model, settings, schema.
        items: Items of the first shard, which runs alone; 0 for no canary.
        cost_usd: What they should cost; None where that is not known.
    """

    shape: str
    items: int
    cost_usd: float | None = None

    def too_many_failed(self, failed: int, threshold: float) -> bool:
        """Whether a larger share than `threshold` of its items failed."""
        return failed > threshold * self.items

    def too_expensive(self, cost_usd: float | None) -> bool:
        """Whether it has cost far more than expected, where both are known."""
        return bool(self.cost_usd) and (cost_usd or 0.0) > MAX_COST_RATIO * (self.cost_usd or 0.0)

    def passed(self, tried: int, failed: int, threshold: float) -> bool:
        """Whether a run that has tried so many items shows that its shape works: beyond its canary, if it had one."""
        return tried > self.items and failed <= threshold * tried


@dataclass(frozen=True, slots=True)
class Summary:
    """The totals of a run.

    Attributes:
        total_items: Items of the source, broken rows included.
        succeeded: Items with an answer, reused ones included.
        failed: Items that failed, broken rows included.
        not_attempted: Items without a result, because the run stopped early.
        left_out: Items without a result, because only failed or only truncated ones were asked for.
        reused: Items answered by an earlier run.
        new: Items that no earlier run had met.
        changed: Items that an earlier run had met with another text, prompt, model, shape or setting.
        retried: Items that earlier runs had met and not answered.
        total_input_tokens: Of this run alone.
        total_output_tokens: Of this run alone.
        cost_usd: Of this run alone; None where the model's price is not known.
        saved_usd: What the reused answers cost when they were made; None where one of them has no price.
        seconds: From the plan to the end of the merge.
        output: Path of the output.
        failures: Path of the failures file; None when nothing failed.
        categories: Failures by category.
        stopped: Why the run ended early; empty when it did not.
        p50_seconds: Median time of the items that this run called, waits and retries included; None without any. From
            a digest of a few kilobytes: of millions of items it is off by less than 1 %.
        p95_seconds: 95 % of them took no longer, to the same accuracy.
        total_cached_input_tokens: Those of the input tokens that came from the provider's cache; of this run alone.
        priced_by: Where the prices are from, with their version; empty where there are none.
        kept: The output of the last complete run, which this one, not being complete, has left as it was; else empty.
        budgets: Each budget of the job: setting, scope (run, month), unit (usd, tokens), budget, spent, left.
        warnings: Sentences on what may be wrong with the source.
        refreshed: Items that were asked again although earlier runs had answered them.
        truncated: Items whose answer was cut off at the token limit, those that failed for it included; None where an
            earlier version made the run.
        total_estimated_tokens: Tokens of this run that are estimated, for the provider reported no usage.
        notes: Sentences for the reader on how far the totals can be trusted.
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
