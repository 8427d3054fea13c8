"""The tasks of a run: plan, shard, publish. Their arguments and results are small plain values."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.context import TaskRunContext
from prefect.states import Completed, Failed

from batch_llm import jobs
from batch_llm.config import Limits
from batch_llm.errors import JobError
from batch_llm.jobs import BatchJob, BudgetShare, Plan, ShardOutcome, ShardRef
from batch_llm.jobs.execution.file_descriptors import too_few_files
from batch_llm.jobs.execution.tracing import shard_span
from batch_llm.jobs.ledger.run_folder import open_folder
from batch_llm.jobs.messages import plan_sentence, shard_sentence
from batch_llm.pacing.governor import Governor
from batch_llm.strategies.base import LLMCallStrategy

from .best_effort import best_effort, warn
from .log_handlers import prepare_log_handlers
from .rate_limits.sharing import shared
from .rate_limits.stated_limits import conflicts_of
from .retries import ShardUnfinished
from .secrets import provide_key, provide_password
from .stopping import is_elsewhere, is_orphan, within_grace
from .telemetry.artifacts import publish_report, publish_results
from .telemetry.events import RunEvents
from .telemetry.observer import PrefectObserver
from .telemetry.tags import shard_tags

StrategyFactory = Callable[[], LLMCallStrategy[Any]]


def strategy_name(strategy: StrategyFactory | None) -> str:
    """Return the name of the caller's strategy, which is part of the key of an answer in the ledger."""
    return f"{strategy.__module__}.{strategy.__qualname__}" if strategy else ""


@task(name="plan", task_run_name="plan", cache_policy=NO_CACHE)
def plan(job: BatchJob, run_id: str, strategy: StrategyFactory | None = None, lease: int = 0) -> State[Any]:
    """Read the source once and write the items to call into shard files."""
    if strategy is None:
        provide_key(job)
    provide_password(job)
    try:
        planned = jobs.plan(job, run_id, strategy=strategy_name(strategy), lease=lease)
    except JobError as error:
        return Failed(message=str(error), data=error)
    return Completed(message=plan_sentence(planned), data=planned)


@task(name="shard", task_run_name="items {shard.first:,}-{shard.last:,}", cache_policy=NO_CACHE)
def run_shard(
    job: BatchJob,
    folder: str,
    shard: ShardRef,
    events: RunEvents,
    strategy: StrategyFactory | None = None,
    share: BudgetShare | None = None,
    attempt: int = 1,
) -> State[Any]:
    """Call the unfinished items of a shard; return a state with a `ShardOutcome`, or a `ShardUnfinished` with one.

    Failures are returned as states, not raised: an outage of the provider is not a bug, and needs no traceback. The
    state of an attempt after which the scheduler starts another one is Completed with the name Unfinished.
    """
    prepare_log_handlers()  # may run in a process of a pool
    observer = PrefectObserver(events, shard, attempt)
    if strategy is None:
        provide_key(job)  # may run on another machine than the plan
    if problem := too_few_files(job.config):
        warn("%s", problem)
    try:
        with jobs.governed(job, lingers=is_elsewhere()) as governor, _sharing(job, governor), shard_span(job, shard):
            answer = partial(
                jobs.run_shard,
                job,
                folder,
                shard,
                observers=[observer],
                strategy=strategy,
                governor=governor,
                share=share,
            )
            outcome = asyncio.run(within_grace(folder, answer))
        if is_orphan():
            os.kill(os.getpid(), signal.SIGKILL)  # an exit would wait for a queue without a reader
    except JobError as error:
        _stop_all(folder, str(error))
        return Failed(message=str(error), data=error)
    if outcome.unfinished and not outcome.unfinished.is_retryable:
        _stop_all(folder, outcome.unfinished_text)
    is_fatal = outcome.unfinished is not None and not outcome.unfinished.is_retryable and not outcome.stopped
    if outcome.left and not outcome.stopped and attempt < job.shard_retry.max_attempts:
        _name_task_run(outcome, shard, attempt)
        return Completed(name="Unfinished", message=outcome.unfinished_text, data=outcome)
    _name_task_run(outcome, shard, attempt, shard_tags(outcome))
    _emit_completed(outcome, shard, events, observer.left_out)
    if is_fatal:
        return Failed(message=outcome.unfinished_text, data=ShardUnfinished(outcome))
    return Completed(message=shard_sentence(outcome), data=outcome)


def _sharing(job: BatchJob, governor: Governor) -> AbstractContextManager[None]:
    """Share the limit with other processes, except for the local model, which has no limit."""
    is_own = job.model == jobs.LOCAL and job.limit_scope is None
    return nullcontext() if is_own else shared(jobs.scope_of(job), governor, job.limits)


def _stop_all(folder: str, reason: str) -> None:
    """Stop all other shards of the run: the same error would occur in them."""
    with suppress(OSError):  # a full disk stops them anyway
        jobs.request_stop(folder, reason, kind="fatal")


def _name_task_run(outcome: ShardOutcome, shard: ShardRef, attempt: int, tags: Iterable[str] = ()) -> None:
    """Put the outcome of the shard into the name and tags of the task run.

    Prefect records a task run from its engine's events, which overwrite a name set through the API.
    """
    if context := TaskRunContext.get():
        number = f" (attempt {attempt})" if attempt > 1 else ""
        context.task_run.name = f"items {shard.first:,}-{shard.last:,}{number}: {shard_sentence(outcome)}"
        context.task_run.tags = sorted({*context.task_run.tags, *tags})


def _emit_completed(outcome: ShardOutcome, shard: ShardRef, events: RunEvents, left_out: int) -> None:
    if events.room_for(shard.index):
        known = {name: getattr(shard, name) for name in ("first", "last")}
        counts = {name: getattr(outcome, name) for name in ("succeeded", "failed", "not_attempted", "cost_usd")}
        events.emit("shard.completed", {"shard": shard.index, **known, **counts, "left_out": left_out})


@task(name="publish", task_run_name="publish", cache_policy=NO_CACHE)
def publish(job: BatchJob, planned: Plan, stopped: str = "") -> State[Any]:
    """Merge the ledger into the output, and publish results and report as artifacts."""
    run = open_folder(job, planned.folder)
    jobs.record_publishing(planned.folder)
    try:
        notes = conflicts_of(jobs.scope_of(job), job.limits) if job.limits != Limits() else []
        summary = jobs.merge(job, planned, stopped=stopped, notes=notes)
        with best_effort(retries=1):
            publish_results(job, run, summary)
        with best_effort(retries=1):
            publish_report(job, run, summary)
    except JobError as error:
        return Failed(message=str(error), data=error)
    finally:
        jobs.record_publishing(planned.folder, ends=True)
    return Completed(data=summary)
