"""Scheduler that runs the shards of a run until none is left or the run has to stop."""

from __future__ import annotations

import time
from collections import deque
from contextlib import ExitStack
from dataclasses import replace
from itertools import islice
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any, Self

from prefect.futures import PrefectFuture

from batch_llm.errors import JobError
from batch_llm.jobs import (
    BatchJob,
    BudgetAllocator,
    BudgetShare,
    Plan,
    ProgressReader,
    RunFolder,
    ShardOutcome,
    ShardRef,
    guessed_output_tokens,
    read_budget_status,
    with_absolute_paths,
)
from batch_llm.prefect import tasks
from batch_llm.prefect.retries import ShardUnfinished, retry_options
from batch_llm.prefect.stopping import read_stop
from batch_llm.prefect.telemetry.events import RunEvents
from batch_llm.prefect.telemetry.metrics import Metrics
from batch_llm.prefect.telemetry.progress import ProgressArtifact

from .runners import open_runner
from .submitter import ShardWorkload
from .watchers import CanaryWatch, FailureThresholdEvent, RunBudget

PROGRESS_SECONDS = 2.0
"""Seconds between two updates of the progress."""


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
        self._task = tasks.run_shard.with_options(**retry_options(job.shard_retry))
        self._arguments: dict[str, Any] = {"folder": planned.folder, "events": events, "strategy": strategy}
        self._folder = planned.folder
        self._pending = deque(planned.shards)
        self._running: dict[PrefectFuture[Any], tuple[ShardRef, int]] = {}
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
        self._stack = ExitStack()
        self.broken: Exception | None = None

    def __enter__(self) -> Self:
        self._show()
        load = ShardWorkload(
            self._job,
            self._task,
            shards=len(self._pending) - self._canary.is_out,
            items=sum(shard.items for shard in self._pending),
            calls_model=not self._arguments["strategy"],
        )
        self._runner = self._stack.enter_context(open_runner(load))
        self._metrics = self._stack.enter_context(Metrics.exported(self._job, self._folder))
        self._free = _workers_each(self._job.config.max_workers, self._runner.at_once)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    def run(self) -> str:
        """Run the remaining shards; return the reason of an early stop, or ''. May be called again after a signal."""
        try:
            self._run_left()
        except self._runner.broken_by as error:
            self.broken = error
            return "stopped because a process of the task runner was killed or ran out of memory"
        stop = read_stop(self._folder)
        return self._reason or (stop.text if stop else "")

    def _run_left(self) -> None:
        while self._start_next() or self._running or self._waits_for_more():
            try:
                future = self._done.get(timeout=PROGRESS_SECONDS)
            except Empty:
                pass
            else:
                self._on_shard_done(*self._running.pop(future), future.result(raise_on_failure=False))
            self._poll()
            self._show()
        self._show(last=True)
        if self._pending and not self._reason:
            self._budget.stop_run()

    def _on_shard_done(self, shard: ShardRef, workers: int, result: Any) -> None:
        self._free.append(workers)
        self._reason = self._reason or _reason_to_stop(result)
        if isinstance(result, ShardOutcome):
            self._release_share(shard, result)
            self._canary.judge(result)
            if result.wanting is None and not result.not_attempted:
                self._progress_reader.set_finished(shard.index)

    def _release_share(self, shard: ShardRef, outcome: ShardOutcome) -> None:
        """Release the unspent share of a shard; queue the shard again if its share was too small."""
        self._budget.release_share(shard, outcome)
        if outcome.wanting is not None:
            self._pending.append(shard)

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
        self._progress.show(progress, last=last)
        self._threshold_event.emit_if_exceeded(progress)
        self._budget.warn_when_nearly_spent(progress)

    def _start_next(self) -> bool:
        """Start shards while the runner has room; return whether one was started."""
        started = False
        while self._free and not self._is_stopping() and (taken := self._take()):
            shard, share = taken
            workers = self._free.popleft()
            job = self._job.model_copy(update={"config": replace(self._job.config, max_workers=workers)})
            future = self._runner.submit(job=job, shard=shard, share=share, **self._arguments)
            self._running[future] = shard, workers
            future.add_done_callback(self._done.put)
            started = True
        return started

    def _take(self) -> tuple[ShardRef, BudgetShare] | None:
        """Return the next shard for which the budget allows a call, with its share; a canary runs alone."""
        alone = self._canary.is_out
        if alone and self._running:
            return None
        at_once = 1 if alone else self._runner.at_once
        for _ in range(1 if alone else len(self._pending)):
            share = self._budget.next_share(self._pending[0], islice(self._pending, at_once))
            if share is not None:
                return self._pending.popleft(), share
            self._pending.rotate(-1)
        return None


def _workers_each(workers: int, parts: int) -> deque[int]:
    each, more = divmod(workers, parts)
    return deque(each + (part < more) for part in range(parts))


def _reason_to_stop(result: Any) -> str:
    match result:
        case ShardUnfinished(outcome=ShardOutcome(unfinished_text=text)):
            return text
        case JobError():
            return str(result)
        case BaseException():
            raise result
        case _:
            return ""
