"""A batch inside a flow: plan, shards, publish, and the final state of the run."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
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
from .best_effort import await_api, best_effort
from .lease import lease
from .log_handlers import prepare_log_handlers, send_logs
from .rate_limits.sharing import shares_released_at_end
from .scheduling.scheduler import ShardScheduler
from .scheduling.work_pool import PoolScheduler
from .stopping import GracefulStop, read_stop
from .telemetry.events import RunEvents
from .telemetry.outcome import publish_outcome, too_many_failed
from .telemetry.tags import tag_run


def run_name() -> str:
    """Return the name of the current flow run: the job's name and the scheduled start time."""
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

    Shards run one after another, or, if one core is not enough for the calls, also in further processes; scripts then
    need `if __name__ == "__main__":`. The job's `runner` selects another way, and a task runner of the flow overrides
    it. `config.max_workers` is the number of calls in flight in all shards together.

    Args:
        job: The job; None to pass its fields as `settings`.
        items: Rows to use instead of the job's source: an iterable of mappings, which may be a generator; or a
            DataFrame, an Arrow table, a Hugging Face dataset, or any object with `__arrow_c_stream__`.
        strategy: Function that returns the strategy to call instead of the job's model; called once per shard, in the
            shard's process. Its name is part of the key of an answer in the ledger.
        **settings: Fields of a `BatchJob`.

    Returns:
        Totals of the run; the answers are in the output file.

    Raises:
        JobError: The job is invalid; no call was made.
        BatchLLMError: The caller is not a flow; or a process of the task runner was killed, and the finished items
            are in the output.

    Example:
        Inside a function with `@flow`::

            summary = run_batch(source="docs.jsonl", output="out.jsonl", prompt="Summarize: {text}", model="local")
    """
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        raise BatchLLMError("run_batch was called outside of a flow: call it inside a function with @flow")
    prepare_log_handlers()
    run_id = str(context.flow_run.id)
    job = job or BatchJob.parse(settings if items is None else {"source": "items", **settings})
    if items is not None:
        job = with_items(job, items, run_id)
    events = RunEvents(run_id, job.name)
    tag_run(job.name, job.model)
    run = run_folder(job, run_id)
    with lease(job, run, events) as number:
        planned = _plan(job, run_id, strategy, number)
        events = replace(events, shards=max(1, len(planned.shards)))
        about = {"total": planned.total, "reused": planned.reused, "shards": len(planned.shards)}
        events.emit("run.started", {"source": job.source, "model": job.model, **about})
        ending = GracefulStop(planned.folder)
        carried = PoolScheduler if job.runner == "pool" else ShardScheduler
        with _own_thread() as threads:
            publish = partial(_submit, threads, tasks.publish, job=job, planned=planned)
            with (
                governed(job) as governor,
                shares_released_at_end(governor),
                carried(job, run, planned, events, strategy) as shards,
            ):
                stopped = ending.run(shards.run)
                # The processes of this machine take seconds to exit. Runners elsewhere send their records as they do.
                early = shards.broken is None and job.runner != "pool"
                publishing = publish(stopped=stopped) if early else None
            summary: Summary = _result_of(publishing or publish(stopped=stopped), ending.run)
    publish_outcome(job, summary, events)
    if ending.signal is not None:
        get_run_logger().warning("%s", sentence := run_sentence(summary))
        ending.signal.add_note(sentence)  # `log_handlers` logs it instead of a traceback
        with best_effort():
            send_logs()
        raise ending.signal
    if shards.broken is not None:
        raise BatchLLMError(f"{run_sentence(summary)}. Run it again; finished items are not charged again")
    await_api()
    return summary


def _plan(job: BatchJob, run_id: str, strategy: tasks.StrategyFactory | None, number: int) -> Plan:
    with _own_thread() as threads:
        planned: Plan = _result_of(
            _submit(threads, tasks.plan, job=job, run_id=run_id, strategy=strategy, lease=number)
        )
    for note in planned.notes:
        get_run_logger().info("%s", note)
    for warning in planned.warnings:
        get_run_logger().warning("%s", warning)
    return planned


def _own_thread() -> AbstractContextManager[ThreadPoolTaskRunner[Any]]:
    """Return a runner of one task at a time; the end of the block waits for its task.

    A signal then interrupts only the waiting main thread, and no file is half written. The flow's task runner is not
    used, because a process pool with a killed process accepts no more tasks.
    """
    threads: ThreadPoolTaskRunner[Any] = ThreadPoolTaskRunner(max_workers=1)
    return threads


def _submit(threads: ThreadPoolTaskRunner[Any], task: Task[..., Any], **parameters: Any) -> PrefectFuture[Any]:
    return threads.submit(task, parameters)


def _result_of(future: PrefectFuture[Any], wait: Callable[[Callable[[], Any]], Any] = lambda work: work()) -> Any:
    found = wait(lambda: future.result(raise_on_failure=False))
    if isinstance(found, JobError):
        raise JobError(str(found))  # a new error, because the task's own has the task's traceback
    if isinstance(found, BaseException):
        raise found
    return found


def final_state(job: BatchJob, summary: Summary) -> State[Any]:
    """Return the final state of the flow run, with its totals as the message.

    Returns:
        Completed; Failed when items are missing or more failed than `failure_threshold` allows; Cancelled; or
        BudgetReached, of the type Cancelled.
    """
    message = run_sentence(summary)
    stop = read_stop(run_folder(job, flow_run.id).path)
    if summary.stopped and stop and stop.kind == "budget":
        # Of the type Cancelled: the run is not complete, and retries of the flow, which need a failure, would not help.
        return Cancelled(name="BudgetReached", message=message)
    if summary.stopped and stop and stop.kind == "asked":
        return Cancelled(message=message)
    if summary.stopped and stop and stop.kind == "canary":
        return Failed(message=message)
    if summary.stopped or summary.not_attempted:
        return Failed(message=f"{message}. Run it again after a fix; finished items are not charged again")
    if too_many_failed(job, summary):
        return Failed(message=f"{message}: more than failure_threshold={job.failure_threshold:g} allows")
    return Completed(message=message)
