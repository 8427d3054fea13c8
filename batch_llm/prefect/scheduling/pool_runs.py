"""Flow runs that execute shards of another run: started in its work pool, replaced when their machine crashes."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from prefect.client.schemas.objects import FlowRun
from prefect.context import FlowRunContext
from prefect.deployments import run_deployment
from prefect.logging import get_run_logger
from prefect.states import Cancelled, Crashed

from batch_llm.errors import JobError
from batch_llm.jobs import BatchJob
from batch_llm.jobs.ledger.claims import RunnerRegistry
from batch_llm.jobs.ledger.run_folder import RunFolder
from batch_llm.prefect.api import api
from batch_llm.prefect.best_effort import best_effort

FLOW = "batch-llm-shards"
ENTRYPOINT = "flows/shards.py:shards"
PULL_STEPS: list[dict[str, Any]] = [{"batch_llm.prefect.project.pull": {}}]

LOOK_SECONDS = 5.0
MOST_REPLACEMENTS = 10
"""Maximum number of flow runs that are replaced in one run."""


@dataclass(frozen=True, slots=True)
class Pool:
    """The work pool of a run.

    Attributes:
        name: Name of the pool.
        queue: Work queue of the run.
        variables: Job variables of the run's deployment, such as an image.
    """

    name: str
    queue: str | None
    variables: dict[str, Any]

    def count(self, shards: int, job: BatchJob) -> int:
        """Return the useful number of runners, the run itself included: one for each online worker."""
        wanted = job.runner_options.processes or self._online()
        return max(1, min(wanted, shards, job.config.max_workers))

    def _online(self) -> int:
        workers: Any = f"/work_pools/{self.name}/workers/filter"  # the synchronous client has no method for it
        with api() as client:
            found = client.request("POST", workers, json={}).json()
        return sum(worker.get("status") == "ONLINE" for worker in found)


def own_pool() -> Pool:
    """Return the work pool of the current flow run.

    Raises:
        JobError: The flow run has no work pool.
    """
    context = FlowRunContext.get()
    run = context.flow_run if context else None
    if run is None or run.deployment_id is None or run.work_pool_name is None:
        raise JobError(
            "runner is 'pool', but this run has no work pool: run `batch-llm deploy`, start workers, and run "
            "`prefect deployment run batch-llm/PRESET`; or set another runner"
        )
    with api() as client:
        deployment = client.read_deployment(run.deployment_id)
    variables = {**(deployment.job_variables or {}), **(run.job_variables or {})}
    return Pool(run.work_pool_name, run.work_queue_name, variables)


class PoolRuns:
    """The flow runs that execute shards of a run next to the run itself."""

    def __init__(self, pool: Pool, job: BatchJob, run: RunFolder, count: int) -> None:
        self._pool, self._job, self._run, self._count = pool, job, run, count
        self._runners = RunnerRegistry(run.store)
        self._runs: dict[UUID, FlowRun] = {}
        self._replacements = 0
        self._started = self._ended = False
        self._next_look = 0.0
        self._deployment: UUID | None = None

    def start(self) -> None:
        """Start the other flow runs, once. If Prefect is unreachable, the run executes its shards alone."""
        if self._started:
            return
        self._started = True
        with best_effort(retries=1):
            self._deployment = self._deploy()
            for _ in range(self._count):
                self._start_one()
        get_run_logger().info(
            "Started %d flow runs in the pool %s to run shards of this run", self._count, self._pool.name
        )

    def refresh(self) -> None:
        """Find crashed flow runs, set their state, and start replacements."""
        if self._ended or time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + LOOK_SECONDS
        with best_effort():
            for run_id in list(self._runs):
                if self._is_over(run_id) and self._replacements < MOST_REPLACEMENTS:
                    self._replacements += 1
                    self._start_one()

    def end(self) -> None:
        """Stop starting flow runs, and cancel those that no worker has picked up."""
        self._ended = True
        with best_effort(), api() as client:
            for run_id in self._runs:
                state = client.read_flow_run(run_id).state
                if state is not None and (state.is_scheduled() or state.is_pending()):
                    client.set_flow_run_state(run_id, Cancelled(message="The run had finished before this one started"))

    def set_final_states(self) -> None:
        """Set the state Crashed of flow runs whose heartbeat stopped."""
        with best_effort():
            for run_id in list(self._runs):
                self._is_over(run_id)

    def _deploy(self) -> UUID:
        with api() as client:
            flow = client.create_flow_from_name(FLOW)
            return client.create_deployment(
                flow,
                self._pool.name,
                entrypoint=ENTRYPOINT,
                pull_steps=PULL_STEPS,
                work_pool_name=self._pool.name,
                description="Runs shards of other runs, which start it; do not start it by hand.",
                tags=["batch-llm"],
                enforce_parameter_schema=False,
            )

    def _start_one(self) -> None:
        if self._deployment is None:
            return
        started: Any = run_deployment(  # pyright: ignore[reportUnknownVariableType]  typed for sync and async
            self._deployment,
            parameters={"job": self._parameters(), "run_id": self._run.path.name},
            timeout=0,
            work_queue_name=self._pool.queue,
            job_variables=self._pool.variables,
        )
        self._runs[started.id] = started

    def _parameters(self) -> dict[str, Any]:
        local_ledger = self._run.runs.parent.local
        job = self._job if local_ledger is None else self._job.model_copy(update={"ledger": str(local_ledger)})
        return job.model_dump(mode="json")

    def _is_over(self, run_id: UUID) -> bool:
        with api() as client:
            state = client.read_flow_run(run_id).state
            is_over = state is not None and state.is_final()
            with suppress(OSError):
                if not is_over and self._runners.is_dead(str(run_id)):
                    message = "No heartbeat for a minute; the shard was given to another runner"
                    client.set_flow_run_state(run_id, Crashed(message=message), force=True)
                    is_over = True
        if is_over:
            del self._runs[run_id]
        return is_over
