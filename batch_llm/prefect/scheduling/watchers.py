"""Budget, canary and failure threshold of a run, with the events that they emit."""

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
from batch_llm.jobs.ledger.shard_progress import ShardProgress
from batch_llm.jobs.messages import budget_sentence, canary_sentence
from batch_llm.prefect.stopping import read_stop
from batch_llm.prefect.telemetry.events import RunEvents

WARNING_SHARE = 0.8


class RunBudget:
    """Budget of a run: divides it among shards, stops the run when it is used up, and emits each budget event once."""

    def __init__(self, budget: BudgetAllocator, folder: str, events: RunEvents) -> None:
        self._budget = budget
        self._folder = folder
        self._events = events
        self._warned: set[str] = set()

    def next_share(self, shard: ShardRef, at_once: Iterable[ShardRef]) -> BudgetShare | None:
        """Return the budget share of a shard; None if the rest is too small for a call."""
        return self._budget.share(shard, at_once)

    def release_share(self, shard: ShardRef, outcome: ShardOutcome) -> None:
        """Release the unspent share of a shard."""
        self._budget.release(shard, outcome)

    def warn_when_nearly_spent(self, progress: Progress) -> None:
        """Emit a warning event when most of a budget is spent."""
        spent = Spent(progress.cost_usd or 0.0, progress.input_tokens + progress.output_tokens)
        for limit in self._budget.status(spent):
            if limit.spent >= WARNING_SHARE * limit.budget and limit.setting not in self._warned:
                self._warned.add(limit.setting)
                self._events.emit("budget.warning", limit.as_json())

    def stop_run(self) -> None:
        """Stop the run because the rest of the budget is too small for a call, unless it is already stopping."""
        if read_stop(self._folder) is None:
            limit = self._budget.tightest
            request_stop(self._folder, budget_sentence(limit), kind="budget")
            self._events.emit("budget.exhausted", limit.as_json())


class CanaryWatch:
    """Watcher that stops the run when its canary fails, or costs far more than expected.

    Attributes:
        is_out: Whether the verdict is not certain yet; no other shard may start then.
    """

    def __init__(self, job: BatchJob, planned: Plan) -> None:
        self._canary = planned.canary
        self._folder = planned.folder
        self._threshold = job.failure_threshold
        self.is_out = planned.canary.items > 0

    def watch(self, progress: ShardProgress) -> None:
        """Release the other shards if the canary passes whatever happens to the rest of its items."""
        if self.is_out and self._canary.has_passed(progress, self._threshold):
            self.is_out = False

    def judge(self, outcome: ShardOutcome, *, retries: bool) -> None:
        """Check the outcome of an attempt of the canary, the first shard; stop the run if it failed or cost too much.

        Args:
            outcome: The outcome.
            retries: Whether its failed items will be retried; if they decide, the next outcome does.
        """
        if not self.is_out or outcome.wanting is not None:
            return
        why = canary_sentence(self._canary, outcome, self._threshold)
        if retries and why and self._can_still_pass(outcome):
            return
        self.is_out = False
        if why and read_stop(self._folder) is None:
            request_stop(self._folder, why, kind="canary")

    def _can_still_pass(self, outcome: ShardOutcome) -> bool:
        failed_for_good = outcome.failed - outcome.left
        return not (
            self._canary.too_many_failed(failed_for_good, self._threshold)
            or self._canary.too_expensive(outcome.cost_usd)
        )


class FailureThresholdEvent:
    """Event `failures.threshold`, emitted at most once per run; subscribers decide whether to cancel the run."""

    def __init__(self, job: BatchJob, events: RunEvents) -> None:
        self._allowed = job.failure_threshold
        self._events = events
        self._reported = False

    def emit_if_exceeded(self, progress: Progress) -> None:
        """Emit the event if too many items have failed so far; a retry of a shard may still answer them."""
        if self._reported or progress.failed <= self._allowed * progress.total:
            return
        self._reported = True
        payload = {"failed": progress.failed, "total": progress.total, "failure_threshold": self._allowed}
        self._events.emit("failures.threshold", {**payload, "categories": progress.categories})
