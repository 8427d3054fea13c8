"""A batch inside a flow: the tasks in their order, the run's state at the end."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from prefect import Task
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.futures import PrefectFuture
from prefect.logging import get_run_logger
from prefect.runtime import flow_run
from prefect.states import Cancelled, Completed, Failed
from prefect.task_runners import ThreadPoolTaskRunner

from batch_llm.errors import BatchLLMError, JobError
from batch_llm.jobs import BatchJob, Items, Plan, Summary, governed, run_folder, with_items
from batch_llm.jobs.messages import run_sentence

from . import tasks
from .best_effort import await_api
from .console import outlive_reader
from .lease import lease
from .rate_limits.sharing import given_back
from .scheduling.pool import PoolScheduler
from .scheduling.scheduler import ShardScheduler
from .stopping import GracefulStop, read_stop
from .telemetry.events import RunEvents
from .telemetry.outcome import publish_outcome, too_many_failed
from .telemetry.tags import tag_run


def run_name() -> str:
    """Return the flow run's name: the job's, and when it was due."""
    due = flow_run.scheduled_start_time
    return f"{flow_run.parameters.get('name', 'batch')} {due:%Y-%m-%d %H:%M}"


def run_batch(
    job: BatchJob | None = None,
    *,
    items: Items | None = None,
    strategy: tasks.StrategyFactory | None = None,
    **settings: Any,
) -> Summary:
    """Run a batch inside the current flow: plan, shards, publish.

    Shards run one after another, or, where `config.max_workers` is more than a core can carry, in processes beside each
    other, for which a script needs its `if __name__ == "__main__":`; the job's `runner` says it differently. A flow
    that names a task runner of its own has its way. `config.max_workers` is what is in flight in all.

    Args:
        job: What to do; or give its fields as `settings`.
        items: Rows, instead of the job's source: an iterable of mappings, a generator too, which is taken one by one;
            or a DataFrame, an Arrow table, a Hugging Face dataset, whatever has `__arrow_c_stream__`.
        strategy: Makes the strategy, once a shard and where the shard runs, instead of the job's model. Its name is
            part of what an answer is remembered under.
        **settings: Fields of a `BatchJob`.

    Returns:
        The run's totals; the answers are in the output file.

    Raises:
        JobError: The job cannot run as it is written; nothing was paid for.
        BatchLLMError: There is no flow around this call; or a process of the flow's task runner was killed, and what
            was answered is in the output.
    """
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        raise BatchLLMError("run_batch was called outside of a flow: call it inside a function with @flow")
    outlive_reader()
    run_id = str(context.flow_run.id)
    job = job or BatchJob.parse(settings if items is None else {"source": "items", **settings})
    if items is not None:
        job = with_items(job, items, run_id)
    events = RunEvents(run_id, job.name)
    tag_run(job.name, job.model)
    with lease(job, run_id, events) as number:
        planned = _plan(job, run_id, strategy, number)
        events = replace(events, shards=max(1, len(planned.shards)))
        about = {"total": planned.total, "reused": planned.reused, "shards": len(planned.shards)}
        events.emit("run.started", {"source": job.source, "model": job.model, **about})
        ending = GracefulStop(planned.folder)
        carried = PoolScheduler if job.runner == "pool" else ShardScheduler
        with governed(job) as governor, given_back(governor), carried(job, planned, events, strategy) as shards:
            stopped = ending.through(shards.run)
        summary = _publish(job, planned, stopped, ending)
    publish_outcome(job, summary, events)
    if ending.signal is not None:
        get_run_logger().warning("%s", run_sentence(summary))
        raise ending.signal
    if shards.broken is not None:
        raise BatchLLMError(f"{run_sentence(summary)}. Run it again: what was answered is not paid again")
    await_api()
    return summary


def _plan(job: BatchJob, run_id: str, strategy: tasks.StrategyFactory | None, number: int) -> Plan:
    with _in_thread(tasks.plan, job=job, run_id=run_id, strategy=strategy, lease=number) as future:
        found = future.result(raise_on_failure=False)
    if isinstance(found, JobError):
        raise JobError(str(found))  # not the task's own, which would bring the task's traceback with it
    if isinstance(found, BaseException):
        raise found
    planned: Plan = found
    for note in planned.notes:
        get_run_logger().info("%s", note)
    for warning in planned.warnings:
        get_run_logger().warning("%s", warning)
    return planned


def _publish(job: BatchJob, planned: Plan, stopped: str, ending: GracefulStop) -> Summary:
    with _in_thread(tasks.publish, job=job, planned=planned, stopped=stopped) as future:
        found = ending.through(lambda: future.result(raise_on_failure=False))
    if isinstance(found, JobError):
        raise JobError(str(found))  # not the task's own, which would bring the task's traceback with it
    if isinstance(found, BaseException):
        raise found
    summary: Summary = found
    return summary


@contextmanager
def _in_thread(task: Task[..., Any], **parameters: Any) -> Generator[PrefectFuture[Any]]:
    """Run a task in a thread of our own, and leave no sooner than it ends.

    A signal then finds the main thread waiting, and tears no file. Nor does the task need the flow's task runner: a
    pool whose process was killed takes no more tasks.
    """
    threads: ThreadPoolTaskRunner[Any] = ThreadPoolTaskRunner(max_workers=1)
    with threads:
        yield threads.submit(task, parameters)


def final_state(job: BatchJob, summary: Summary) -> State[Any]:
    """Return the flow run's last state, with a message of one sentence."""
    message = run_sentence(summary)
    stop = read_stop(run_folder(job, flow_run.id).path)
    if summary.stopped and stop and stop.kind == "budget":
        # Of Cancelled's type: it is no success, and a flow's retries, which are for failures, would change nothing.
        return Cancelled(name="BudgetReached", message=message)
    if summary.stopped and stop and stop.kind == "asked":
        return Cancelled(message=message)
    if summary.stopped and stop and stop.kind == "canary":
        return Failed(message=message)
    if summary.stopped or summary.not_attempted:
        return Failed(message=f"{message}. Run it again when that is mended: what was answered is not paid again")
    if too_many_failed(job, summary):
        return Failed(message=f"{message}: more than failure_threshold={job.failure_threshold:g} allows")
    return Completed(message=message)
