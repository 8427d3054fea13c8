"""What every runner of shards has in common: the workload, and the function that submits it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import BrokenExecutor
from dataclasses import dataclass
from typing import Any

from prefect import Task
from prefect.futures import PrefectFuture
from prefect.task_runners import TaskRunner

from batch_llm.jobs import BatchJob
from batch_llm.jobs.cpu import cores


@dataclass(frozen=True, slots=True)
class Runner:
    """Carries shards.

    Attributes:
        submit: Takes the arguments of the task `run_shard` by name, and returns at once; the future's result is what
            the task's is.
        at_once: How many shards it carries at once; what is submitted beyond that waits.
        broken_by: What a future's result raises when the runner takes no more shards.
    """

    submit: Callable[..., PrefectFuture[Any]]
    at_once: int
    broken_by: tuple[type[Exception], ...] = (BrokenExecutor,)


@dataclass(frozen=True, slots=True)
class ShardWorkload:
    """What a runner is to carry.

    Attributes:
        job: The job.
        task: `run_shard`, with the job's retries.
        shards: How many there are.
        items: How many they have in all.
        calls_model: Whether the job's model is called, rather than a strategy of the caller's.
    """

    job: BatchJob
    task: Task[..., Any]
    shards: int
    items: int
    calls_model: bool = True

    @property
    def most_at_once(self) -> int:
        """How many shards can run at once, whoever carries them: each has an item, and a worker for it."""
        return max(1, min(self.shards, self.job.config.max_workers))

    def processes(self) -> int:
        """Return what the job says, or one for each core; no more than there is work for."""
        return self.at_once(cores())

    def at_once(self, room: int) -> int:
        """Return what the job says, or as many as there is room for; no more than there is work for."""
        return min(self.job.runner_options.processes or room, self.most_at_once)


def submitting(runner: TaskRunner[Any], task: Task[..., Any]) -> Callable[..., PrefectFuture[Any]]:
    """Return what hands a shard's arguments to a task runner that is not the flow's own."""

    def submit(**arguments: Any) -> PrefectFuture[Any]:
        return runner.submit(task, arguments)

    return submit
