"""Allocation of a run's budget to its shards: each shard gets a share, and unspent money is returned."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

from batch_llm.jobs.budget_types import BudgetShare, BudgetStatus, Spent, Unit
from batch_llm.jobs.run_types import ShardOutcome, ShardRef
from batch_llm.pacing.token_estimate import TokenEstimate


@dataclass(frozen=True, slots=True)
class ShardSpend:
    """Spending of a shard that has finished.

    Attributes:
        spent: Spending of all its calls, including earlier attempts of the shard.
        wanting: Expected cost of the next call, if the shard's share was too small for it.
        estimate: Usage of the job's calls as measured in the shard.
        left: Whether the shard has unfinished items and should run again.
    """

    spent: Spent
    wanting: Spent | None
    estimate: TokenEstimate | None
    left: bool

    @classmethod
    def of(cls, outcome: ShardOutcome) -> Self:
        """Return the spending of a shard's outcome."""
        spent = Spent(outcome.cost_usd or 0.0, outcome.input_tokens + outcome.output_tokens)
        left = bool(outcome.not_attempted or outcome.wanting or outcome.left)
        return cls(spent, outcome.wanting, outcome.estimate, left)


class BudgetAllocator:
    """Allocator of budget shares to shards; without budgets, shares are unlimited.

    A shard that is about to start gets a part of the unallocated budget, in proportion to its items among the shards
    that may run at once. When it finishes, its unspent money is available to the other shards, and to the shard itself
    if its share was too small.

    Args:
        limits: Budgets of the job, with the spending before this run's shards.
        output_tokens: Expected output tokens of an answer, until one was received.

    Example:
        >>> allocator = BudgetAllocator([BudgetStatus("budget_usd", "run", "usd", 5.0, 0.0)], output_tokens=100)
        >>> share = allocator.share(shard, [shard])  # doctest: +SKIP
        >>> allocator.release(shard, outcome)  # doctest: +SKIP
    """

    def __init__(self, limits: Sequence[BudgetStatus], output_tokens: float) -> None:
        self._limits = limits
        self._estimate = TokenEstimate(output_tokens=output_tokens)
        self._held: dict[int, BudgetShare] = {}  # by the shard's index, while it runs
        self._spent: dict[int, Spent] = {}
        self._wanting: dict[int, Spent] = {}

    def share(self, shard: ShardRef, at_once: Iterable[ShardRef]) -> BudgetShare | None:
        """Allocate a share of the budget to a shard; None if the remaining budget is too small for its next call.

        Args:
            shard: Shard that is about to start.
            at_once: Shards among which to divide the remaining budget, including this one.
        """
        share = self._offer(shard, at_once)
        if share is not None:
            self._held[shard.index] = share
        return share

    def release(self, shard: ShardRef, outcome: ShardOutcome) -> None:
        """Return a shard's unspent share to the budget."""
        self._end(shard.index, ShardSpend.of(outcome))

    def status(self, spent: Spent) -> list[BudgetStatus]:
        """Return the status of the budgets after this run's shards have spent `spent`."""
        return [
            BudgetStatus(each.setting, each.scope, each.unit, each.budget, each.spent + getattr(spent, each.unit))
            for each in self._limits
        ]

    @property
    def is_bounded(self) -> bool:
        """Whether the job has a budget."""
        return bool(self._limits)

    @property
    def tightest(self) -> BudgetStatus:
        """Budget with the smallest remaining fraction."""
        total = sum(self._spent.values(), Spent())
        return min(self.status(total), key=lambda limit: limit.left / limit.budget)

    def _offer(self, shard: ShardRef, at_once: Iterable[ShardRef]) -> BudgetShare | None:
        part = shard.items / sum(other.items for other in at_once)
        most = {unit: self._most(shard.index, unit, part) for unit in ("usd", "tokens")}
        return None if -1.0 in most.values() else BudgetShare(most["usd"], most["tokens"], self._estimate)

    def _end(self, index: int, ending: ShardSpend) -> None:
        self._held.pop(index, None)
        self._spent[index] = ending.spent
        self._wanting.pop(index, None)
        if ending.wanting is not None:
            self._wanting[index] = ending.wanting
        if ending.estimate is not None and ending.estimate.answers:
            self._estimate = ending.estimate

    def _most(self, index: int, unit: Unit, part: float) -> float | None:
        """Return the maximum spending of a shard in a unit; None without a budget, -1 if no call fits."""
        limits = [limit for limit in self._limits if limit.unit == unit]
        if not limits:
            return None
        before = getattr(self._spent.get(index, Spent()), unit)
        left = min(limit.budget - limit.spent for limit in limits) - self._taken(unit)
        # The cheapest call for which a share was too small: calls of another shard may cost no more.
        wanting = self._wanting.get(index) or min(self._wanting.values(), key=lambda each: each.usd, default=Spent())
        call: float = getattr(wanting, unit)
        if left <= 0 or left < call:
            return -1.0
        return before + max(left * part, call)

    def _taken(self, unit: Unit) -> float:
        """Return the spending of finished shards plus the shares of running shards."""
        spent = {index: getattr(amount, unit) for index, amount in self._spent.items()}
        held = {index: getattr(share, unit) for index, share in self._held.items()}
        return sum({**spent, **held}.values())
