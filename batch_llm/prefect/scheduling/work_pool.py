"""A run whose shards are executed by flow runs in the same work pool, on the machines of its workers.

    the flow of the run                       flow runs of batch-llm-shards, one per worker
    plans, sends the shards to the ledger     take the plan from the ledger
    claims shard after shard                  claim shard after shard, until none is left
    replaces flow runs that crashed           end with the run, or when its heartbeat stops
    publishes

The run executes shards itself, so it continues without other flow runs; those that join later claim remaining shards.
Claiming needs one process start per flow run instead of one per shard, and works while the Prefect server is
unreachable.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.logging import get_run_logger
from prefect.runtime import flow_run
from prefect.states import Completed
from pydantic import TypeAdapter

from batch_llm.errors import JobError
from batch_llm.jobs import (
    BatchJob,
    BudgetShare,
    JournaledAllocator,
    Plan,
    RunnerOptions,
    ShardOutcome,
    ShardRef,
    governed,
    request_stop,
)
from batch_llm.jobs.execution.shard_watch import MAX_UNCHECKED_SECONDS
from batch_llm.jobs.ledger.claims import RunnerRegistry
from batch_llm.jobs.ledger.heartbeat import STALE_SECONDS, Heartbeat
from batch_llm.jobs.ledger.remote_run import publish_progress, remote_run_folder, send_shards
from batch_llm.jobs.ledger.run_folder import RunFolder
from batch_llm.jobs.storage.json_files import read_object
from batch_llm.prefect.log_handlers import prepare_log_handlers
from batch_llm.prefect.stopping import GracefulStop, read_stop
from batch_llm.prefect.telemetry.events import RunEvents

from .claimed_shards import ClaimedShards
from .pool_runs import PoolRuns, own_pool
from .scheduler import ShardScheduler

LEAVE_SECONDS = STALE_SECONDS + 15.0
"""Seconds for the other runners to see that the run is over; disconnected ones count as crashed within it."""


class ClaimingScheduler(ShardScheduler):
    """Scheduler of the shards that this process can claim, one at a time.

    Args:
        job: The job, with this process's share of the workers.
        run: The run's folder.
        planned: The plan, with the run's folder on this machine.
        events: Emits the events of the shards.
        shows_others: Whether this process fetches the progress of the other runners.

    Attributes:
        completed_shards: Number of shards that finished in this process.
    """

    def __init__(self, job: BatchJob, run: RunFolder, planned: Plan, events: RunEvents, *, shows_others: bool) -> None:
        budget = JournaledAllocator.of(job, run, planned)
        super().__init__(job.model_copy(update={"runner": "threads"}), run, planned, events, None, budget)
        self.completed_shards = 0
        self._pending.clear()
        self._shared = ClaimedShards(run, planned, flow_run.id, budget, shows_others=shows_others)
        self._at_once = job.runner_options.processes or 1
        self._ledger = run
        self._runners = RunnerRegistry(run.store)

    def _take(self) -> tuple[ShardRef, BudgetShare] | None:
        return self._shared.take(self._at_once, alone=self._canary.is_out)

    def _share_again(self, shard: ShardRef) -> BudgetShare | None:
        return self._shared.share_again(shard, self._at_once)

    def _release_share(self, shard: ShardRef, outcome: ShardOutcome, *, retries: bool) -> None:
        self._shared.end(shard, outcome, retries=retries)
        self.completed_shards += not retries

    def _record_retry(self, shard: ShardRef, left: int, category: str, wait: float) -> None:
        super()._record_retry(shard, left, category, wait)
        with suppress(OSError):  # progress is only displayed
            publish_progress(self._ledger, shard)

    def _waits_for_more(self) -> bool:
        return not (self._shared.is_empty or self._is_stopping())

    def _poll(self) -> None:
        self._shared.refresh()


class PoolScheduler(ClaimingScheduler):
    """Scheduler of a run that other flow runs of the work pool join.

    Raises:
        JobError: The run has no work pool, or its strategy exists only in this process.
    """

    def __init__(self, job: BatchJob, run: RunFolder, planned: Plan, events: RunEvents, strategy: Any) -> None:
        if strategy is not None:
            raise JobError(
                "runner 'pool' cannot use a strategy of the caller, because other machines lack it: set another"
            )
        self._run = run
        pool = own_pool()
        runners = pool.count(len(planned.shards), job)
        job = with_workers_divided(job, runners)
        super().__init__(job, run, planned, events, shows_others=True)
        self._others = PoolRuns(pool, job, self._run, runners - 1)

    def __enter__(self) -> PoolScheduler:
        send_shards(self._run)
        self._stack.callback(self._wait_for_runners)
        self._stack.enter_context(registered(self._run, flow_run.id))
        super().__enter__()
        self._poll()
        return self

    def _poll(self) -> None:
        super()._poll()
        if not self._running and not self._is_stopping() and self._shared.is_unaffordable():
            self._budget.stop_run()
        if not self._canary.is_out and not self._is_stopping():  # other runners wait for the outcome of the canary
            self._others.start()
            self._others.refresh()

    def _wait_for_runners(self) -> None:
        """Wait until the other runners have seen the end of the run and left its folder in the ledger."""
        self._others.end()
        left, end = set(self._runners.names()) - {flow_run.id}, time.monotonic() + LEAVE_SECONDS
        while left and time.monotonic() < end:
            with suppress(OSError):
                left = {name for name in left if not self._runners.is_gone(name)}
            if left:
                time.sleep(1.0)
        self._others.set_final_states()


def with_workers_divided(job: BatchJob, runners: int) -> BatchJob:
    """Return the job with one runner's part of `config.max_workers`, and the number of runners in its options."""
    workers = max(1, job.config.max_workers // runners)
    own = {"config": replace(job.config, max_workers=workers), "runner_options": RunnerOptions(processes=runners)}
    return job.model_copy(update=own)


@contextmanager
def registered(run: RunFolder, runner: str) -> Generator[Heartbeat]:
    """Register as a runner of the run and send heartbeats; a runner that others declare crashed stops its shard."""
    try:
        with RunnerRegistry(run.store).join(runner, lost=partial(request_stop, run.path, here=True)) as heartbeat:
            yield heartbeat
    except OSError as error:
        raise JobError(f"cannot write the ledger {run.store.address}: {error.strerror or error}") from error


def carry_shards(job: BatchJob, run_id: str) -> State[Any]:
    """Run shards of another run until none is left; return the final state of the current flow run.

    Args:
        job: The job of the other run.
        run_id: Id of the other run.

    Raises:
        JobError: The ledger is not reachable from this machine.

    Example:
        In a flow on another machine::

            return carry_shards(BatchJob.parse(job), run_id)
    """
    context = FlowRunContext.get()
    assert context is not None
    prepare_log_handlers()
    with remote_run_folder(job, run_id) as run:
        if not RunnerRegistry(run.store).is_running(run_id):
            return Completed(message="The run had finished before this one started")
        planned = _plan_of(run)
        events = replace(RunEvents(run_id, job.name), shards=max(1, len(planned.shards)))
        ending = GracefulStop(str(run.path), here=True)
        with (
            registered(run, flow_run.id) as heartbeat,
            governed(job),
            _JoiningScheduler(job, run, planned, events, heartbeat) as shards,
        ):
            ending.run(shards.run)
        stop = read_stop(run.path)
        text = f"Ran {shards.completed_shards} shards" + (f"; {stop.text}" if stop else "")
        get_run_logger().info("%s", text)
        if ending.signal is not None:
            ending.signal.add_note(text)  # `log_handlers` logs it instead of a traceback
            raise ending.signal
        return Completed(message=text)


class _JoiningScheduler(ClaimingScheduler):
    """Scheduler of shards of a run that another process planned."""

    def __init__(self, job: BatchJob, run: RunFolder, planned: Plan, events: RunEvents, heartbeat: Heartbeat) -> None:
        super().__init__(job, run, planned, events, shows_others=False)
        self._heartbeat = heartbeat

    def _show(self, *, last: bool = False) -> None:
        """Do nothing: the run shows the progress of all shards."""

    def _poll(self) -> None:
        super()._poll()
        if self._heartbeat.is_missed:
            request_stop(self._folder, "an unreachable ledger", here=True)
        with suppress(OSError):
            if self._runners.is_gone(Path(self._folder).name, after=MAX_UNCHECKED_SECONDS):
                request_stop(self._folder, "the end of the run", here=True)


def _plan_of(run: RunFolder) -> Plan:
    known = read_object(run.plan)
    planned = TypeAdapter(Plan).validate_python({name: known[name] for name in Plan.__dataclass_fields__})
    return replace(planned, folder=str(run.path), canary=replace(planned.canary, items=0))  # the canary has finished
