"""A run's budget, shared out to its shards: each gets a number, and gives back what it has not spent."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from batch_llm._call_estimate import CallEstimate

from .plan import ShardRef
from .purse import Share, Spent
from .run_shard import ShardOutcome
from .spending import Limit, Unit


class Budget:
    """Who has what of the budget; without limits every share is boundless.

    A shard that is about to start gets a part of what nobody has, in proportion to its items among those that may run
    at once. When it ends, what it has not spent is there for the others, and for itself, if its share was too small.

    Args:
        limits: The job's budgets, and what was spent of them before this run's shards.
        output_tokens: Expected of an answer, until there was one.
    """

    def __init__(self, limits: Sequence[Limit], output_tokens: float) -> None:
        self._limits = limits
        self._estimate = CallEstimate(output_tokens=output_tokens)
        self._held: dict[int, Share] = {}  # by the shard's index, while it runs
        self._spent: dict[int, Spent] = {}
        self._wanting: dict[int, Spent] = {}

    def share(self, shard: ShardRef, at_once: Iterable[ShardRef]) -> Share | None:
        """Set aside what a shard may spend; None where that is less than its next call.

        Args:
            shard: What is to start.
            at_once: The shards among which to share out what is left, this one included.
        """
        part = shard.items / sum(other.items for other in at_once)
        most = {unit: self._most(shard.index, unit, part) for unit in ("usd", "tokens")}
        if -1.0 in most.values():
            return None
        share = self._held[shard.index] = Share(most["usd"], most["tokens"], self._estimate)
        return share

    def settle(self, shard: ShardRef, outcome: ShardOutcome) -> None:
        """Take back what a shard has not spent."""
        index = shard.index
        self._held.pop(index, None)
        self._spent[index] = Spent(outcome.cost_usd or 0.0, outcome.input_tokens + outcome.output_tokens)
        self._wanting.pop(index, None)
        if outcome.wanting is not None:
            self._wanting[index] = outcome.wanting
        if outcome.estimate is not None and outcome.estimate.answers:
            self._estimate = outcome.estimate

    def standing(self, spent: Spent) -> list[Limit]:
        """Return the limits as they stand when this run's shards have spent so much."""
        return [
            Limit(each.setting, each.scope, each.unit, each.budget, each.spent + getattr(spent, each.unit))
            for each in self._limits
        ]

    @property
    def tightest(self) -> Limit:
        """The limit of which the least is left, for its size."""
        total = sum(self._spent.values(), Spent())
        return min(self.standing(total), key=lambda limit: limit.left / limit.budget)

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
