"""A run whose shards are carried by flow runs of the same work pool, on whatever machines its workers are.

    the flow of the run                       flow runs of batch-llm-shards, one a worker
    plans, sends the shards to the ledger     take the plan from the ledger
    claims shard after shard                  claim shard after shard, until none is left
    starts others where some have died        end with the run, and when it shows no sign of life
    publishes

The run carries shards itself, so it needs nobody else to go on; who joins later takes what is left. Carriers that claim
cost one start of a process for the whole run, and go on while the Prefect server is away.
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
from batch_llm.jobs.ledger.claims import Runners
from batch_llm.jobs.ledger.heartbeat import STALE_SECONDS, Heartbeat
from batch_llm.jobs.ledger.remote_run import remote_run_folder, send_shards
from batch_llm.jobs.ledger.run_folder import RunFolder, open_folder
from batch_llm.jobs.storage.json_files import read_object
from batch_llm.prefect.console import outlive_reader
from batch_llm.prefect.stopping import GracefulStop, read_stop
from batch_llm.prefect.telemetry.events import RunEvents

from .claimed_shards import ClaimedShards
from .pool_runs import PoolRuns, own_pool
from .scheduler import ShardScheduler

LEAVE_SECONDS = STALE_SECONDS + 15.0
"""For carriers to see that the run is over; those that are cut off are taken for dead within it."""


class ClaimingScheduler(ShardScheduler):
    """The shards of a run of which this process runs those that it can claim, one at a time.

    Args:
        job: The job, with this process's part of the workers.
        planned: The plan, with the run's folder on this machine.
        events: Tells of the shards.
        hears: Whether this process shows how far the others are.

    Attributes:
        carried: Shards that ended here.
    """

    def __init__(self, job: BatchJob, planned: Plan, events: RunEvents, *, hears: bool) -> None:
        budget = JournaledAllocator.of(job, planned)
        super().__init__(job.model_copy(update={"runner": "threads"}), planned, events, None, budget)
        self.carried = 0
        self._left.clear()
        self._shared = ClaimedShards(job, planned, flow_run.id, budget, hears=hears)
        self._at_once = job.runner_options.processes or 1
        self._carriers = Runners(open_folder(job, planned.folder).store)

    def _take(self) -> tuple[ShardRef, BudgetShare] | None:
        return self._shared.take(1 if self._canary.is_out else self._at_once)

    def _settle(self, shard: ShardRef, workers: int, result: Any) -> None:
        super()._settle(shard, workers, result)
        self.carried += 1

    def _give_back(self, shard: ShardRef, outcome: ShardOutcome) -> None:
        self._shared.end(shard, outcome)

    def _waits_for_more(self) -> bool:
        return not (self._shared.is_empty or self._is_to_end())

    def _look(self) -> None:
        self._shared.refresh()


class PoolScheduler(ClaimingScheduler):
    """The shards of a run that other carriers join.

    Raises:
        JobError: There is no work pool; or a strategy that only this process knows.
    """

    def __init__(self, job: BatchJob, planned: Plan, events: RunEvents, strategy: Any) -> None:
        if strategy is not None:
            raise JobError("runner is 'pool', whose carriers know models but no strategy of the caller's: set another")
        self._run = open_folder(job, planned.folder)
        pool = own_pool()
        carriers = pool.count(len(planned.shards), job)
        job = with_share(job, carriers)
        super().__init__(job, planned, events, hears=True)
        self._others = PoolRuns(pool, job, self._run, carriers - 1)

    def __enter__(self) -> PoolScheduler:
        send_shards(self._job, self._folder)
        self._stack.callback(self._let_leave)
        self._stack.enter_context(joined(self._run, flow_run.id))
        super().__enter__()
        self._look()
        return self

    def _look(self) -> None:
        super()._look()
        if not self._running and not self._is_to_end() and self._shared.is_unaffordable():
            self._budget.end()
        if not self._canary.is_out and not self._is_to_end():  # the others wait for what the first items show
            self._others.start()
            self._others.refresh()

    def _let_leave(self) -> None:
        """Leave the ledger's folder to nobody who would take it for a run at work."""
        self._others.end()
        left, end = set(self._carriers.names()) - {flow_run.id}, time.monotonic() + LEAVE_SECONDS
        while left and time.monotonic() < end:
            with suppress(OSError):
                left = {name for name in left if not self._carriers.is_gone(name)}
            if left:
                time.sleep(1.0)
        self._others.set_final_states()


def with_share(job: BatchJob, carriers: int) -> BatchJob:
    """Return the job with a carrier's part of `config.max_workers`, and how many carriers there are."""
    workers = max(1, job.config.max_workers // carriers)
    own = {"config": replace(job.config, max_workers=workers), "runner_options": RunnerOptions(processes=carriers)}
    return job.model_copy(update=own)


@contextmanager
def joined(run: RunFolder, carrier: str) -> Generator[Heartbeat]:
    """Be a carrier of a run; one that is taken for dead ends its shard."""
    try:
        with Runners(run.store).join(carrier, lost=partial(request_stop, run.path, here=True)) as beat:
            yield beat
    except OSError as error:
        raise JobError(f"the ledger cannot be written to {run.store.address}: {error.strerror or error}") from error


def carry_shards(job: BatchJob, run_id: str) -> State[Any]:
    """Carry shards of a run until none is left, inside a flow run of its own; return that one's last state.

    Raises:
        JobError: The ledger is not to be reached from here.
    """
    context = FlowRunContext.get()
    assert context is not None
    outlive_reader()
    with remote_run_folder(job, run_id) as run:
        if not Runners(run.store).is_running(run_id):
            return Completed(message="The run was over before this began")
        planned = _plan_of(run)
        events = replace(RunEvents(run_id, job.name), shards=max(1, len(planned.shards)))
        ending = GracefulStop(str(run.path), here=True)
        with joined(run, flow_run.id) as beat, governed(job), _CarriedShards(job, planned, events, beat) as shards:
            ending.through(shards.run)
        if ending.signal is not None:
            raise ending.signal
        stop = read_stop(run.path)
        text = f"Carried {shards.carried} shards" + (f"; {stop.text}" if stop else "")
        get_run_logger().info("%s", text)
        return Completed(message=text)


class _CarriedShards(ClaimingScheduler):
    """The shards of a run that another process has planned."""

    def __init__(self, job: BatchJob, planned: Plan, events: RunEvents, beat: Heartbeat) -> None:
        super().__init__(job, planned, events, hears=False)
        self._beat = beat

    def _show(self, *, last: bool = False) -> None:
        """Leave that to the run, which sees all shards."""

    def _look(self) -> None:
        super()._look()
        if self._beat.is_missed:
            request_stop(self._folder, "a ledger that is out of reach", here=True)
        with suppress(OSError):
            if self._carriers.is_gone(Path(self._folder).name, after=MAX_UNCHECKED_SECONDS):
                request_stop(self._folder, "the end of the run", here=True)


def _plan_of(run: RunFolder) -> Plan:
    known = read_object(run.plan)
    planned = TypeAdapter(Plan).validate_python({name: known[name] for name in Plan.__dataclass_fields__})
    return replace(planned, folder=str(run.path), canary=replace(planned.canary, items=0))  # it is back
