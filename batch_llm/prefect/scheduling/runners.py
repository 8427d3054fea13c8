"""The runners of shards and the choice between them, by the job or automatically.

ADD A RUNNER HERE: a context manager that yields a `ShardSubmitter`, its name in `RUNNERS` and in
batch_llm/jobs/runner_options.py.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, cast

from prefect import Task
from prefect.context import FlowRunContext
from prefect.futures import PrefectFuture
from prefect.logging import get_run_logger
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from batch_llm.jobs import RunnerName
from batch_llm.jobs.planning.parallelism import processes_for
from batch_llm.prefect.scheduling.processes import in_processes
from batch_llm.prefect.scheduling.submitter import ShardSubmitter, ShardWorkload

Opener = Callable[[ShardWorkload], AbstractContextManager[ShardSubmitter]]


def open_runner(load: ShardWorkload) -> AbstractContextManager[ShardSubmitter]:
    """Return the runner of the shards as a context manager: the flow's task runner if it sets one, else the job's."""
    job, own = load.job, _flow_runner()
    if isinstance(own, ThreadPoolTaskRunner):
        return RUNNERS[job.runner](load)
    if job.runner != "auto":
        get_run_logger().warning("The flow's %s runs the shards, not runner=%s", type(own).__name__, job.runner)
    return _flow_own(load)


def _auto(load: ShardWorkload) -> AbstractContextManager[ShardSubmitter]:
    """Run shards in this process, and in others if more cores help: threads share a core."""
    processes = processes_for(load.job, load.shards, load.items, calls_model=load.calls_model)
    return in_processes(load, _submit_to_flow(load.task), processes, at_once=False)


def _in_flow(load: ShardWorkload) -> AbstractContextManager[ShardSubmitter]:
    return in_processes(load, _submit_to_flow(load.task), 1, at_once=False)


def _processes(load: ShardWorkload) -> AbstractContextManager[ShardSubmitter]:
    return in_processes(load, _submit_to_flow(load.task), load.processes(), at_once=True)


@contextmanager
def _flow_own(load: ShardWorkload) -> Generator[ShardSubmitter]:
    at_once = min(getattr(_flow_runner(), "_max_workers", None) or 1, load.job.config.max_workers)
    yield ShardSubmitter(_submit_to_flow(load.task), lambda: at_once)


def _dask(load: ShardWorkload) -> AbstractContextManager[ShardSubmitter]:
    if not load.shards:
        return _in_flow(load)  # a cluster takes half a minute to start
    from .clusters import on_dask

    return on_dask(load)


def _ray(load: ShardWorkload) -> AbstractContextManager[ShardSubmitter]:
    if not load.shards:
        return _in_flow(load)
    from .clusters import on_ray

    return on_ray(load)


RUNNERS: dict[RunnerName, Opener] = {
    "auto": _auto,
    "threads": _in_flow,
    "processes": _processes,
    "dask": _dask,
    "ray": _ray,
}


def _submit_to_flow(task: Task[..., Any]) -> Callable[..., PrefectFuture[Any]]:
    return cast("Callable[..., PrefectFuture[Any]]", task.submit)  # pyright: ignore[reportUnknownMemberType]  overloads


def _flow_runner() -> TaskRunner[Any]:
    context = FlowRunContext.get()
    assert context is not None  # run_batch checks it
    return context.task_runner
