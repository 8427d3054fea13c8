"""A run's budget inside a flow: the shards' shares, and what is told when it is nearly or wholly used up."""

from __future__ import annotations

from collections.abc import Iterable

from batch_llm.jobs import (
    BatchJob,
    BudgetAllocator,
    BudgetShare,
    Plan,
    Progress,
    ShardOutcome,
    ShardRef,
    Spent,
    request_stop,
)
from batch_llm.jobs.messages import budget_sentence, canary_sentence
from batch_llm.prefect.stopping import read_stop
from batch_llm.prefect.telemetry.events import RunEvents

WARNING_SHARE = 0.8


class RunBudget:
    """Shares out what a run may spend, and tells of it in events, each once for each budget."""

    def __init__(self, budget: BudgetAllocator, folder: str, events: RunEvents) -> None:
        self._budget = budget
        self._folder = folder
        self._events = events
        self._warned: set[str] = set()

    def next_share(self, shard: ShardRef, at_once: Iterable[ShardRef]) -> BudgetShare | None:
        """Return what a shard may spend; None where no call fits into what is left."""
        return self._budget.share(shard, at_once)

    def settle(self, shard: ShardRef, outcome: ShardOutcome) -> None:
        """Take back what a shard has not spent."""
        self._budget.release(shard, outcome)

    def look(self, progress: Progress) -> None:
        """Tell when most of a budget is spent."""
        spent = Spent(progress.cost_usd or 0.0, progress.input_tokens + progress.output_tokens)
        for limit in self._budget.status(spent):
            if limit.spent >= WARNING_SHARE * limit.budget and limit.setting not in self._warned:
                self._warned.add(limit.setting)
                self._events.emit("budget.warning", limit.as_json())

    def end(self) -> None:
        """End the run, unless something else has: no call fits into what is left."""
        if read_stop(self._folder) is None:
            limit = self._budget.tightest
            request_stop(self._folder, budget_sentence(limit), kind="budget")
            self._events.emit("budget.exhausted", limit.as_json())


class CanaryWatch:
    """Ends the run when its canary fails, or costs far more than it should.

    Attributes:
        is_out: Whether there is a canary that has not come back: no other shard may start.
    """

    def __init__(self, job: BatchJob, planned: Plan) -> None:
        self._canary = planned.canary
        self._folder = planned.folder
        self._threshold = job.failure_threshold
        self.is_out = planned.canary.items > 0

    def judge(self, outcome: ShardOutcome) -> None:
        """Let the others follow, or end the run, unless something else has; only the first shard is judged."""
        if not self.is_out:
            return
        self.is_out = False
        why = canary_sentence(self._canary, outcome, self._threshold)
        if why and read_stop(self._folder) is None:
            request_stop(self._folder, why, kind="canary")


class Threshold:
    """Emits `failures.threshold` once a run; whether the run goes on is for whoever hears it to decide."""

    def __init__(self, job: BatchJob, events: RunEvents) -> None:
        self._allowed = job.failure_threshold
        self._events = events
        self._told = False

    def look(self, progress: Progress) -> None:
        """Tell if it is so; a later try of a shard may still answer what has failed."""
        if self._told or progress.failed <= self._allowed * progress.total:
            return
        self._told = True
        payload = {"failed": progress.failed, "total": progress.total, "failure_threshold": self._allowed}
        self._events.emit("failures.threshold", {**payload, "categories": progress.categories})
