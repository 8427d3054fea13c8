"""What carries the shards of a run, and how many at once: the job says, or what the machine and the job are like.

ADD A RUNNER HERE: a context manager that yields a `Runner`, its name in `RUNNERS` and in batch_llm/jobs/runner.py.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from concurrent.futures import BrokenExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, cast

from prefect import Task
from prefect.context import FlowRunContext
from prefect.futures import PrefectFuture
from prefect.logging import get_run_logger
from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner, ThreadPoolTaskRunner

from batch_llm.jobs import BatchJob, RunnerName
from batch_llm.jobs.cores import cores
from batch_llm.jobs.processes import processes_for


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
class Load:
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


Opener = Callable[[Load], AbstractContextManager[Runner]]


def open_runner(load: Load) -> AbstractContextManager[Runner]:
    """Return what carries the shards, to be entered: the flow's own task runner if it names one, else the job's."""
    job, own = load.job, _flow_runner()
    if isinstance(own, ThreadPoolTaskRunner):
        return RUNNERS[job.runner](load)
    if job.runner != "auto":
        get_run_logger().warning("The flow's %s carries the shards, not runner=%s", type(own).__name__, job.runner)
    return _flow_own(load)


@contextmanager
def _auto(load: Load) -> Generator[Runner]:
    """Threads share a core, so that one shard after another is as fast; where more cores help, shards get processes."""
    processes = processes_for(load.job, load.shards, load.items, calls_model=load.calls_model)
    with _threads(load) if processes == 1 else _pool(load.task, processes) as runner:
        yield runner


@contextmanager
def _threads(load: Load) -> Generator[Runner]:
    yield Runner(_submit_to_flow(load.task), 1)


def _processes(load: Load) -> AbstractContextManager[Runner]:
    return _pool(load.task, load.processes())


@contextmanager
def _flow_own(load: Load) -> Generator[Runner]:
    at_once = getattr(_flow_runner(), "_max_workers", None) or 1
    yield Runner(_submit_to_flow(load.task), min(at_once, load.job.config.max_workers))


@contextmanager
def _pool(task: Task[..., Any], processes: int) -> Generator[Runner]:
    with ProcessPoolTaskRunner(max_workers=processes) as pool:
        yield Runner(submitting(pool, task), processes)


def _dask(load: Load) -> AbstractContextManager[Runner]:
    if not load.shards:
        return _threads(load)  # a cluster takes half a minute to come up
    from .clusters import on_dask

    return on_dask(load)


def _ray(load: Load) -> AbstractContextManager[Runner]:
    if not load.shards:
        return _threads(load)
    from .clusters import on_ray

    return on_ray(load)


RUNNERS: dict[RunnerName, Opener] = {
    "auto": _auto,
    "threads": _threads,
    "processes": _processes,
    "dask": _dask,
    "ray": _ray,
}


def submitting(runner: TaskRunner[Any], task: Task[..., Any]) -> Callable[..., PrefectFuture[Any]]:
    """Return what hands a shard's arguments to a task runner that is not the flow's own."""

    def submit(**arguments: Any) -> PrefectFuture[Any]:
        return runner.submit(task, arguments)

    return submit


def _submit_to_flow(task: Task[..., Any]) -> Callable[..., PrefectFuture[Any]]:
    return cast("Callable[..., PrefectFuture[Any]]", task.submit)  # pyright: ignore[reportUnknownMemberType]  overloads


def _flow_runner() -> TaskRunner[Any]:
    context = FlowRunContext.get()
    assert context is not None  # run_batch has seen to it
    return context.task_runner
