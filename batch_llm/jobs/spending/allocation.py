"""A run's budget, shared out to its shards: each gets a number, and gives back what it has not spent."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

from batch_llm.jobs.amounts import BudgetShare, BudgetStatus, Spent, Unit
from batch_llm.jobs.run_types import ShardOutcome, ShardRef
from batch_llm.pacing.token_estimate import TokenEstimate


@dataclass(frozen=True, slots=True)
class ShardSpend:
    """What a shard that has ended means to the budget.

    Attributes:
        spent: What all its calls came to, those of its earlier tries included.
        wanting: What the next call would have cost, for which its share was too small.
        estimate: What its answers have taught of the job's calls.
        left: Whether it is to be run again.
    """

    spent: Spent
    wanting: Spent | None
    estimate: TokenEstimate | None
    left: bool

    @classmethod
    def of(cls, outcome: ShardOutcome) -> Self:
        spent = Spent(outcome.cost_usd or 0.0, outcome.input_tokens + outcome.output_tokens)
        return cls(spent, outcome.wanting, outcome.estimate, bool(outcome.not_attempted or outcome.wanting))


class BudgetAllocator:
    """Who has what of the budget; without limits every share is boundless.

    A shard that is about to start gets a part of what nobody has, in proportion to its items among those that may run
    at once. When it ends, what it has not spent is there for the others, and for itself, if its share was too small.

    Args:
        limits: The job's budgets, and what was spent of them before this run's shards.
        output_tokens: Expected of an answer, until there was one.
    """

    def __init__(self, limits: Sequence[BudgetStatus], output_tokens: float) -> None:
        self._limits = limits
        self._estimate = TokenEstimate(output_tokens=output_tokens)
        self._held: dict[int, BudgetShare] = {}  # by the shard's index, while it runs
        self._spent: dict[int, Spent] = {}
        self._wanting: dict[int, Spent] = {}

    def share(self, shard: ShardRef, at_once: Iterable[ShardRef]) -> BudgetShare | None:
        """Set aside what a shard may spend; None where that is less than its next call.

        Args:
            shard: What is to start.
            at_once: The shards among which to share out what is left, this one included.
        """
        share = self._offer(shard, at_once)
        if share is not None:
            self._held[shard.index] = share
        return share

    def release(self, shard: ShardRef, outcome: ShardOutcome) -> None:
        """Take back what a shard has not spent."""
        self._end(shard.index, ShardSpend.of(outcome))

    def status(self, spent: Spent) -> list[BudgetStatus]:
        """Return the limits as they stand when this run's shards have spent so much."""
        return [
            BudgetStatus(each.setting, each.scope, each.unit, each.budget, each.spent + getattr(spent, each.unit))
            for each in self._limits
        ]

    @property
    def is_bounded(self) -> bool:
        """Whether there is any limit."""
        return bool(self._limits)

    @property
    def tightest(self) -> BudgetStatus:
        """The limit of which the least is left, for its size."""
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
        """Return what all calls of a shard may come to; None without a limit, -1 where no call fits."""
        limits = [limit for limit in self._limits if limit.unit == unit]
        if not limits:
            return None
        before = getattr(self._spent.get(index, Spent()), unit)
        left = min(limit.budget - limit.spent for limit in limits) - self._taken(unit)
        # What the cheapest call wanted that found no room: another shard's need not be dearer.
        wanting = self._wanting.get(index) or min(self._wanting.values(), key=lambda each: each.usd, default=Spent())
        call: float = getattr(wanting, unit)
        if left <= 0 or left < call:
            return -1.0
        return before + max(left * part, call)

    def _taken(self, unit: Unit) -> float:
        """Return what shards have spent, or may spend while they run."""
        spent = {index: getattr(amount, unit) for index, amount in self._spent.items()}
        held = {index: getattr(share, unit) for index, share in self._held.items()}
        return sum({**spent, **held}.values())
