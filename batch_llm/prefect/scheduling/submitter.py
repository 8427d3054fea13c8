"""Types that all runners share: the workload, the submitter, and the function that submits a shard to a task runner."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import BrokenExecutor
from dataclasses import dataclass
from typing import Any

from prefect import Task
from prefect.futures import PrefectFuture
from prefect.task_runners import TaskRunner

from batch_llm.jobs import BatchJob, Progress
from batch_llm.jobs.cpu import cores


@dataclass(frozen=True, slots=True)
class ShardSubmitter:
    """Submitter of shards to an open runner.

    Attributes:
        submit: Function with the keyword arguments of the task `run_shard` that returns at once; the result of its
            future is the result of the task.
        slots: Function that returns the number of shards that can run at once now, which divide the workers.
        broken_by: Exceptions of a future's result after which the submitter accepts no more shards.
        overlaps: Function that returns whether a shard runs in this process, where the next one may start while its
            last items are called.
        watch: Function that is called with the progress of the run several times per second.
    """

    submit: Callable[..., PrefectFuture[Any]]
    slots: Callable[[], int]
    broken_by: tuple[type[Exception], ...] = (BrokenExecutor,)
    overlaps: Callable[[PrefectFuture[Any]], bool] = lambda _: False
    watch: Callable[[Progress], None] = lambda _: None


@dataclass(frozen=True, slots=True)
class ShardWorkload:
    """Workload of a runner.

    Attributes:
        job: The job.
        task: The task `run_shard`.
        shards: Number of shards.
        items: Number of items in all shards.
        calls_model: Whether the job's model is called instead of a strategy of the caller.
    """

    job: BatchJob
    task: Task[..., Any]
    shards: int
    items: int
    calls_model: bool = True

    @property
    def most_at_once(self) -> int:
        """Maximum number of shards that can run at once: each needs an item and a worker."""
        return max(1, min(self.shards, self.job.config.max_workers))

    def processes(self) -> int:
        """Return the number of processes: as the job sets, or one per core, and at most one per shard."""
        return self.at_once(cores())

    def at_once(self, room: int) -> int:
        """Return the number of shards at once: as the job sets, or `room`, and at most `most_at_once`."""
        return min(self.job.runner_options.processes or room, self.most_at_once)


def submitting(runner: TaskRunner[Any], task: Task[..., Any]) -> Callable[..., PrefectFuture[Any]]:
    """Return a function that submits a shard's arguments to a task runner other than the flow's."""

    def submit(**arguments: Any) -> PrefectFuture[Any]:
        return runner.submit(task, arguments)

    return submit
