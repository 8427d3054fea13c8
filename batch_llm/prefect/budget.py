"""A run's budget inside a flow: the shards' shares, and what is told when it is nearly or wholly used up."""

from __future__ import annotations

from collections.abc import Iterable

from batch_llm.jobs import Budget, Progress, ShardOutcome, ShardRef, Share, Spent, ask_to_stop
from batch_llm.jobs.sentences import budget_sentence

from .events import RunEvents
from .stopping import read_stop

WARNING_SHARE = 0.8


class RunBudget:
    """Shares out what a run may spend, and tells of it in events, each once for each budget."""

    def __init__(self, budget: Budget, folder: str, events: RunEvents) -> None:
        self._budget = budget
        self._folder = folder
        self._events = events
        self._warned: set[str] = set()

    def next_share(self, shard: ShardRef, at_once: Iterable[ShardRef]) -> Share | None:
        """Return what a shard may spend; None where no call fits into what is left."""
        return self._budget.share(shard, at_once)

    def settle(self, shard: ShardRef, outcome: ShardOutcome) -> None:
        """Take back what a shard has not spent."""
        self._budget.settle(shard, outcome)

    def look(self, progress: Progress) -> None:
        """Tell when most of a budget is spent."""
        spent = Spent(progress.cost_usd or 0.0, progress.input_tokens + progress.output_tokens)
        for limit in self._budget.standing(spent):
            if limit.spent >= WARNING_SHARE * limit.budget and limit.setting not in self._warned:
                self._warned.add(limit.setting)
                self._events.emit("budget.warning", limit.as_json())

    def end(self) -> None:
        """End the run, unless something else has: no call fits into what is left."""
        if read_stop(self._folder) is None:
            limit = self._budget.tightest
            ask_to_stop(self._folder, budget_sentence(limit), kind="budget")
            self._events.emit("budget.exhausted", limit.as_json())
