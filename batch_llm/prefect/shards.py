"""The shards of a run: how many at once, in which processes, until none is left or the run is to end."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import BrokenExecutor
from contextlib import ExitStack
from dataclasses import replace
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any, Self, cast

from prefect.context import FlowRunContext
from prefect.futures import PrefectFuture
from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner, ThreadPoolTaskRunner

from batch_llm.errors import JobError
from batch_llm.jobs import LOCAL, BatchJob, Plan, ShardOutcome

from . import tasks
from .events import RunEvents
from .progress import ProgressArtifact
from .retries import ShardUnfinished, retry_options
from .stopping import read_stop

PROGRESS_SECONDS = 2.0
"""Between two writes of the progress artifact."""

WORKERS_A_PROCESS = 50
"""Calls at once that are worth a process: with answers in a second and less, a core carries some hundred a second."""


class Shards:
    """Runs the shards of a run; `config.max_workers` is what is in flight in all of them.

    Attributes:
        broken: What the flow's task runner says after one of its processes was killed; it takes no more shards then.
    """

    def __init__(self, job: BatchJob, planned: Plan, events: RunEvents, strategy: tasks.StrategyFactory | None) -> None:
        self._job = job
        self._task = tasks.run_shard.with_options(**retry_options(job.shard_retry))
        self._arguments: dict[str, Any] = {"folder": planned.folder, "events": events, "strategy": strategy}
        self._folder = planned.folder
        self._left = deque(planned.shards)
        self._running: dict[PrefectFuture[Any], int] = {}
        self._done: SimpleQueue[PrefectFuture[Any]] = SimpleQueue()
        self._progress = ProgressArtifact(job, planned)
        self._reason = ""
        self._stack = ExitStack()
        self.broken: BrokenExecutor | None = None

    def __enter__(self) -> Self:
        self._submit, at_once = self._runner()
        self._free = _workers_each(self._job.config.max_workers, at_once)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    def _runner(self) -> tuple[Callable[..., PrefectFuture[Any]], int]:
        """Return what takes a shard's arguments, and how many shards run at once.

        Threads share a core, so that one shard after another is as fast; where more cores help, shards get processes.
        A flow that names another task runner has its way.
        """
        runner = _flow_runner()
        if not isinstance(runner, ThreadPoolTaskRunner):
            at_once = getattr(runner, "_max_workers", None) or 1
            return self._through_flow(), min(at_once, self._job.config.max_workers)
        processes = processes_for(self._job, len(self._left), calls_model=not self._arguments["strategy"])
        if processes == 1:
            return self._through_flow(), 1
        pool = self._stack.enter_context(ProcessPoolTaskRunner(max_workers=processes))

        def submit(**arguments: Any) -> PrefectFuture[Any]:
            return pool.submit(self._task, arguments)

        return submit, processes

    def _through_flow(self) -> Callable[..., PrefectFuture[Any]]:
        return cast("Callable[..., PrefectFuture[Any]]", self._task.submit)  # pyright: ignore[reportUnknownMemberType]  overloads

    def run(self) -> str:
        """Run what is left; return why the run stopped early, or nothing. Goes on after a signal that broke it off."""
        try:
            self._run_left()
        except BrokenExecutor as error:
            self.broken = error
            return "stopped by the end of a process of the task runner, which was killed or ran out of memory"
        stop = read_stop(self._folder)
        return self._reason or (stop.text if stop else "")

    def _run_left(self) -> None:
        while self._start_next() or self._running:
            try:
                future = self._done.get(timeout=PROGRESS_SECONDS)
            except Empty:
                pass
            else:
                self._free.append(self._running.pop(future))
                self._reason = self._reason or _reason_to_stop(future.result(raise_on_failure=False))
            self._progress.show()

    def _start_next(self) -> bool:
        """Start as many shards as there is room for; whether one was started."""
        started = False
        while self._left and self._free and not self._reason and not read_stop(self._folder):
            workers = self._free.popleft()
            job = self._job.model_copy(update={"config": replace(self._job.config, max_workers=workers)})
            future = self._submit(job=job, shard=self._left.popleft(), **self._arguments)
            self._running[future] = workers
            future.add_done_callback(self._done.put)
            started = True
        return started


def processes_for(job: BatchJob, shards: int, *, calls_model: bool = True) -> int:
    """Return in how many processes shards are worth to run: by the cores, the workers, the limit, and what there is.

    The local model has the cores to itself, where it is what is called.
    """
    if calls_model and job.model == LOCAL:
        return 1
    cores = len(os.sched_getaffinity(0))
    wanted = math.ceil(job.config.max_workers / WORKERS_A_PROCESS)
    if job.limits.requests_per_minute is not None:
        wanted = min(wanted, math.ceil(job.limits.requests_per_minute / 60 / WORKERS_A_PROCESS))
    return max(1, min(cores, wanted, shards))


def _workers_each(workers: int, parts: int) -> deque[int]:
    each, more = divmod(workers, parts)
    return deque(each + (part < more) for part in range(parts))


def _flow_runner() -> TaskRunner[Any]:
    context = FlowRunContext.get()
    assert context is not None  # run_batch has seen to it
    return context.task_runner


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
