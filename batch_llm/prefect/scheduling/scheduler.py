"""Scheduler that runs the shards of a run until none is left or the run has to stop."""

from __future__ import annotations

import time
from collections import deque
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import islice
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any, Self

from prefect.futures import PrefectFuture, wait
from prefect.logging import get_run_logger

from batch_llm.jobs import (
    BatchJob,
    BudgetAllocator,
    BudgetShare,
    Plan,
    Progress,
    ProgressReader,
    RunFolder,
    ShardOutcome,
    ShardRef,
    guessed_output_tokens,
    read_budget_status,
    record_retry,
    request_stop,
    with_absolute_paths,
)
from batch_llm.jobs.messages import duration
from batch_llm.prefect import tasks
from batch_llm.prefect.retries import reason_to_stop
from batch_llm.prefect.stopping import read_stop
from batch_llm.prefect.telemetry.events import RunEvents
from batch_llm.prefect.telemetry.metrics import Metrics
from batch_llm.prefect.telemetry.progress import ProgressArtifact

from .free_workers import FreeWorkers
from .retry_queue import RetryQueue
from .runners import open_runner
from .submitter import ShardWorkload
from .watchers import CanaryWatch, FailureThresholdEvent, RunBudget

PROGRESS_SECONDS = 2.0
"""Seconds between two updates of the progress."""

LOOK_SECONDS = 0.2
"""Seconds between two looks at running and waiting shards."""


@dataclass(slots=True)
class _RunningShard:
    """A shard that runs.

    Attributes:
        workers: Workers that it has taken and not returned.
        share: Its budget share.
        is_tail: Whether it has few items left, so that it does not count as one of the shards that run at once.
    """

    shard: ShardRef
    workers: int
    share: BudgetShare
    is_tail: bool = False


class ShardScheduler:
    """Scheduler of the shards of a run; `config.max_workers` calls are in flight in all shards together.

    Args:
        job: The job.
        run: The run's folder.
        planned: The plan.
        events: Emits the events of the shards.
        strategy: Function that returns the strategy to call instead of the job's model.
        budget: Budget shared with other processes; None for the whole budget of the job.

    Attributes:
        broken: Exception of a runner that accepts no more shards, because one of its processes was killed.
    """

    def __init__(
        self,
        job: BatchJob,
        run: RunFolder,
        planned: Plan,
        events: RunEvents,
        strategy: tasks.StrategyFactory | None,
        budget: BudgetAllocator | None = None,
    ) -> None:
        self._job = with_absolute_paths(job)
        self._retries = RetryQueue(job.shard_retry)
        self._arguments: dict[str, Any] = {"folder": planned.folder, "events": events, "strategy": strategy}
        self._folder = planned.folder
        self._pending = deque(planned.shards)
        self._running: dict[PrefectFuture[Any], _RunningShard] = {}
        self._done: SimpleQueue[PrefectFuture[Any]] = SimpleQueue()
        self._progress_reader = ProgressReader(planned.folder)
        self._progress = ProgressArtifact(job.name)
        self._threshold_event = FailureThresholdEvent(job, events)
        self._canary = CanaryWatch(job, planned)
        if budget is None:
            limits = read_budget_status(job, run)
            budget = BudgetAllocator(limits, guessed_output_tokens(job))
        self._budget = RunBudget(budget, planned.folder, events)
        self._reason = ""
        self._shows_at = 0.0
        self._latest = Progress()
        self._stack = ExitStack()
        self.broken: Exception | None = None

    def __enter__(self) -> Self:
        self._show()
        load = ShardWorkload(
            self._job,
            tasks.run_shard,
            shards=len(self._pending) - self._canary.is_out,
            items=sum(shard.items for shard in self._pending),
            calls_model=not self._arguments["strategy"],
        )
        self._runner = self._stack.enter_context(open_runner(load))
        self._metrics = self._stack.enter_context(Metrics.exported(self._job, self._folder))
        self._free = FreeWorkers(self._job.config.max_workers)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    def run(self) -> str:
        """Run the remaining shards; return the reason of an early stop, or ''. May be called again after a signal."""
        try:
            self._run_left()
        except self._runner.broken_by as error:
            self.broken = error
            return self._stop_others("stopped because a process of the task runner was killed or ran out of memory")
        stop = read_stop(self._folder)
        return self._reason or (stop.text if stop else "")

    def _run_left(self) -> None:
        while self._start_next() or self._running or self._retries or self._waits_for_more():
            try:
                future = self._done.get(timeout=LOOK_SECONDS)
            except Empty:
                pass
            else:
                self._on_shard_done(self._running.pop(future), future.result(raise_on_failure=False))
            self._poll()
            self._look_at_running()
            self._show()
            self._runner.watch(self._latest)
        self._show(last=True)
        if self._pending and not self._reason:
            self._budget.stop_run()

    def _stop_others(self, reason: str) -> str:
        """Stop the shards in this process after another process was killed, and wait for their calls in flight."""
        if remaining := [future for future in self._running if self._runner.overlaps(future)]:
            request_stop(self._folder, reason, kind="fatal")
            wait(remaining)
        return reason

    def _on_shard_done(self, ended: _RunningShard, result: Any) -> None:
        shard = ended.shard
        self._free.give(ended.workers)
        stopping = self._is_stopping() or isinstance(result, self._runner.broken_by)
        wait = None if stopping else self._retries.wait_after(shard, result)
        if isinstance(result, ShardOutcome):
            self._release_share(shard, result, retries=wait is not None)
            self._canary.judge(result, retries=wait is not None)
            if wait is not None and result.unfinished is not None:
                self._queue_retry(shard, wait, result.left, result.unfinished.category, result.unfinished_text)
            elif result.wanting is None and not result.not_attempted:
                self._progress_reader.set_finished(shard.index)
        elif wait is not None:  # an error of this machine or of the ledger: the shard keeps its share
            left = self._progress_reader.read_shard(shard.index).left or shard.items
            self._queue_retry(shard, wait, left, type(result).__name__, str(result), ended.share)
        else:
            self._reason = self._reason or reason_to_stop(result)

    def _queue_retry(
        self, shard: ShardRef, wait: float, items: int, category: str, why: str, share: BudgetShare | None = None
    ) -> None:
        """Queue the next attempt of a shard; its process and its workers are free until then."""
        self._retries.add(shard, wait, items, share)
        self._record_retry(shard, items, category, wait)
        attempt, most = self._retries.attempt(shard), self._job.shard_retry.max_attempts
        text = "Shard %d: %s. It is retried in %s (attempt %d of %d); other shards continue"
        get_run_logger().info(text, shard.index + 1, why.rstrip("."), duration(wait), attempt, most)

    def _record_retry(self, shard: ShardRef, left: int, category: str, wait: float) -> None:
        record_retry(self._folder, shard.index, left, category, time.time() + wait)

    def _release_share(self, shard: ShardRef, outcome: ShardOutcome, *, retries: bool) -> None:
        """Release the unspent share of a shard; queue the shard again if its share was too small."""
        self._budget.release_share(shard, outcome)
        if outcome.wanting is not None:
            self._pending.insert(0 if self._canary.is_out else len(self._pending), shard)

    def _share_again(self, shard: ShardRef) -> BudgetShare | None:
        """Return a share for the next attempt of a shard; if the rest of the budget is too small, queue it again."""
        share = self._budget.next_share(shard, [shard, *islice(self._pending, self._runner.slots() - 1)])
        if share is None:
            self._pending.append(shard)
        return share

    def _look_at_running(self) -> None:
        """Release other shards as soon as the canary passes; take back workers for which a shard has no items left."""
        for future, running in self._running.items():
            progress = self._progress_reader.read_shard(running.shard.index)
            if progress.finished or progress.retries_at or not progress.items:
                continue  # of an earlier attempt, or of one that is about to end
            self._canary.watch(progress)
            spare = running.workers - max(1, progress.left)
            if spare > 0 and self._runner.overlaps(future):
                running.workers, running.is_tail = running.workers - spare, True
                self._free.give(spare)

    def _poll(self) -> None:
        """Exchange state with other processes; a no-op if this process has all shards."""

    def _waits_for_more(self) -> bool:
        """Return whether shards may become available later."""
        return False

    def _is_stopping(self) -> bool:
        return bool(self._reason) or read_stop(self._folder) is not None

    def _show(self, *, last: bool = False) -> None:
        if time.monotonic() < self._shows_at and not last:
            return
        self._shows_at = time.monotonic() + PROGRESS_SECONDS
        progress = self._progress_reader.read()
        self._latest = progress
        self._progress.show(progress, last=last)
        self._threshold_event.emit_if_exceeded(progress)
        self._budget.warn_when_nearly_spent(progress)

    def _start_next(self) -> bool:
        """Start shards while the runner has room; return whether one was started."""
        if self._is_stopping():
            self._retries.clear()
            return False
        started = False
        while not (self._canary.is_out and self._running) and (self._start_retry() or self._start_pending()):
            started = True
        if self._pending and not (started or self._running or self._canary.is_out):
            self._retries.clear()  # the rest of the budget is too small for a call
        return started

    def _start_retry(self) -> bool:
        due = self._retries.due
        if due is None or not (workers := self._free.take_up_to(due.items)):
            return False
        self._retries.remove(due)
        share = due.share or self._share_again(due.shard)
        if share is None:
            self._free.give(workers)
            return False
        self._start(due.shard, share, workers, is_tail=True)
        return True

    def _start_pending(self) -> bool:
        if self._canary.is_out and self._retries:
            return False
        busy = sum(not running.is_tail for running in self._running.values())
        workers = self._free.take(slots=self._runner.slots(), busy=busy)
        if not workers:
            return False
        if (taken := self._take()) is None:
            self._free.give(workers)
            return False
        self._start(*taken, workers)
        return True

    def _start(self, shard: ShardRef, share: BudgetShare, workers: int, *, is_tail: bool = False) -> None:
        job = self._job.model_copy(update={"config": replace(self._job.config, max_workers=workers)})
        attempt = self._retries.attempt(shard)
        future = self._runner.submit(job=job, shard=shard, share=share, attempt=attempt, **self._arguments)
        self._running[future] = _RunningShard(shard, workers, share, is_tail and self._runner.overlaps(future))
        future.add_done_callback(self._done.put)

    def _take(self) -> tuple[ShardRef, BudgetShare] | None:
        """Return the next shard for which the budget allows a call, with its share; a canary runs alone."""
        alone = self._canary.is_out
        for _ in range(min(1, len(self._pending)) if alone else len(self._pending)):
            # A canary gets half of the budget, because other shards may start before it ends.
            beside = [self._pending[0]] * 2 if alone else islice(self._pending, self._runner.slots())
            share = self._budget.next_share(self._pending[0], beside)
            if share is not None:
                return self._pending.popleft(), share
            self._pending.rotate(-1)
        return None
