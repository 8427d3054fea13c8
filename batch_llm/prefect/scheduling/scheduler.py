"""The shards of a run, until none is left or the run is to end."""

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
    ShardOutcome,
    ShardRef,
    guessed_output_tokens,
    read_limits,
    run_folder,
    with_absolute_paths,
)
from batch_llm.prefect import tasks
from batch_llm.prefect.retries import ShardUnfinished, retry_options
from batch_llm.prefect.stopping import read_stop
from batch_llm.prefect.telemetry.events import RunEvents
from batch_llm.prefect.telemetry.metrics import Metrics
from batch_llm.prefect.telemetry.progress import ProgressArtifact

from .runner import ShardWorkload
from .runners import open_runner
from .watchers import CanaryWatch, RunBudget, Threshold

PROGRESS_SECONDS = 2.0
"""Between two looks at how far the run is."""


class ShardScheduler:
    """Runs the shards of a run; `config.max_workers` is what is in flight in all of them.

    Args:
        job: The job.
        planned: The plan.
        events: Tells of the shards.
        strategy: Makes the strategy, instead of the job's model.
        budget: What they may spend, where they share it with others; None for all that the job may.

    Attributes:
        broken: What the runner says after one of its processes was killed; it takes no more shards then.
    """

    def __init__(
        self,
        job: BatchJob,
        planned: Plan,
        events: RunEvents,
        strategy: tasks.StrategyFactory | None,
        budget: BudgetAllocator | None = None,
    ) -> None:
        self._job = with_absolute_paths(job)
        self._task = tasks.run_shard.with_options(**retry_options(job.shard_retry))
        self._arguments: dict[str, Any] = {"folder": planned.folder, "events": events, "strategy": strategy}
        self._folder = planned.folder
        self._left = deque(planned.shards)
        self._running: dict[PrefectFuture[Any], tuple[ShardRef, int]] = {}
        self._done: SimpleQueue[PrefectFuture[Any]] = SimpleQueue()
        self._written = ProgressReader(planned.folder)
        self._progress = ProgressArtifact(job.name)
        self._threshold = Threshold(job, events)
        self._canary = CanaryWatch(job, planned)
        if budget is None:
            limits = read_limits(job, run_folder(job, events.flow_run_id))
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
            shards=len(self._left) - self._canary.is_out,
            items=sum(shard.items for shard in self._left),
            calls_model=not self._arguments["strategy"],
        )
        self._runner = self._stack.enter_context(open_runner(load))
        self._metrics = self._stack.enter_context(Metrics.exported(self._job, self._folder))
        self._free = _workers_each(self._job.config.max_workers, self._runner.at_once)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    def run(self) -> str:
        """Run what is left; return why the run stopped early, or nothing. Goes on after a signal that broke it off."""
        try:
            self._run_left()
        except self._runner.broken_by as error:
            self.broken = error
            return "stopped by the end of a process of the task runner, which was killed or ran out of memory"
        stop = read_stop(self._folder)
        return self._reason or (stop.text if stop else "")

    def _run_left(self) -> None:
        while self._start_next() or self._running or self._waits_for_more():
            try:
                future = self._done.get(timeout=PROGRESS_SECONDS)
            except Empty:
                pass
            else:
                self._settle(*self._running.pop(future), future.result(raise_on_failure=False))
            self._look()
            self._show()
        self._show(last=True)
        if self._left and not self._reason:
            self._budget.end()

    def _settle(self, shard: ShardRef, workers: int, result: Any) -> None:
        self._free.append(workers)
        self._reason = self._reason or _reason_to_stop(result)
        if isinstance(result, ShardOutcome):
            self._give_back(shard, result)
            self._canary.judge(result)
            if result.wanting is None and not result.not_attempted:
                self._written.set_finished(shard.index)

    def _give_back(self, shard: ShardRef, outcome: ShardOutcome) -> None:
        """Let others have what a shard has not spent, and let it wait if it was too little."""
        self._budget.settle(shard, outcome)
        if outcome.wanting is not None:
            self._left.append(shard)

    def _look(self) -> None:
        """See what happens elsewhere; nothing does where all shards are this process's own."""

    def _waits_for_more(self) -> bool:
        """Whether there may be shards to run later, though there is none now."""
        return False

    def _is_to_end(self) -> bool:
        return bool(self._reason) or read_stop(self._folder) is not None

    def _show(self, *, last: bool = False) -> None:
        if time.monotonic() < self._shows_at and not last:
            return
        self._shows_at = time.monotonic() + PROGRESS_SECONDS
        progress = self._written.read()
        self._progress.show(progress, last=last)
        self._threshold.look(progress)
        self._budget.look(progress)

    def _start_next(self) -> bool:
        """Start as many shards as there is room for; whether one was started."""
        started = False
        while self._free and not self._is_to_end() and (taken := self._take()):
            shard, share = taken
            workers = self._free.popleft()
            job = self._job.model_copy(update={"config": replace(self._job.config, max_workers=workers)})
            future = self._runner.submit(job=job, shard=shard, share=share, **self._arguments)
            self._running[future] = shard, workers
            future.add_done_callback(self._done.put)
            started = True
        return started

    def _take(self) -> tuple[ShardRef, BudgetShare] | None:
        """Take the next shard of which the budget allows another call; nothing beside a canary."""
        alone = self._canary.is_out
        if alone and self._running:
            return None
        at_once = 1 if alone else self._runner.at_once
        for _ in range(1 if alone else len(self._left)):
            share = self._budget.next_share(self._left[0], islice(self._left, at_once))
            if share is not None:
                return self._left.popleft(), share
            self._left.rotate(-1)
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
