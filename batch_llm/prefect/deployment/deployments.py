"""Presets as deployments, and flow runs of them, through Prefect's API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast
from uuid import UUID

from prefect.client.schemas.actions import DeploymentScheduleCreate, WorkPoolCreate
from prefect.client.schemas.objects import FlowRun, State
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import construct_schedule
from prefect.deployments.runner import RunnerDeployment
from prefect.exceptions import ObjectNotFound
from prefect.states import Pending
from prefect.utilities.urls import url_for
from prefect.workers.process import ProcessWorker

from batch_llm.jobs import project_folder
from batch_llm.prefect.api import api

Block = Mapping[str, Any]
"""One block of `deployments/prefect.yaml`."""

FLOW = "batch-llm"


def flow_entrypoint(block: Block) -> str:
    """Return where the block's flow is, as an absolute path and a function."""
    file, _, function = str(block["entrypoint"]).rpartition(":")
    return f"{project_folder() / file}:{function}"


def local_deployment(block: Block) -> RunnerDeployment:
    """Return the block as a deployment without a work pool, for `serve` and for runs that the command carries."""
    return RunnerDeployment.from_entrypoint(
        flow_entrypoint(block),
        name=str(block["name"]),
        description=block.get("description"),
        tags=list(block.get("tags") or ()),
        parameters=dict(block.get("parameters") or {}),
        schedules=[_schedule(schedule) for schedule in block.get("schedules") or ()] or None,
    )


def _schedule(schedule: Mapping[str, Any]) -> DeploymentScheduleCreate:
    times = {name: schedule.get(name) for name in ("cron", "rrule", "interval", "anchor_date", "timezone")}
    return DeploymentScheduleCreate(schedule=construct_schedule(**times), active=schedule.get("active", True))


def deployment_to_serve(block: Block) -> RunnerDeployment:
    """Return the block as a deployment; a schedule that the file leaves off stays as it was switched on the server.

    One that a work pool has is taken from it: Prefect's update would leave it with the pool, and without a place where
    its flow is, so that its runs crash.
    """
    deployment = local_deployment(block)
    known = _find(deployment.name)
    if known and known.work_pool_name:
        with api() as client:
            client.delete_deployment(known.id)
    for schedule in deployment.schedules or ():
        switched_on = [old for old in known.schedules if old.active] if known else []
        schedule.active = schedule.active or any(old.schedule == schedule.schedule for old in switched_on)
    return deployment


def ensure_deployment(block: Block) -> UUID:
    """Return the preset's deployment; one with a work pool stays as it is, else it is made anew from the block."""
    known = _find(str(block["name"]))
    if known is not None and known.work_pool_name:
        return known.id
    with api():
        # Where a loop runs, `apply` would give a coroutine instead.
        return cast("UUID", deployment_to_serve(block).apply())


def _find(name: str) -> DeploymentResponse | None:
    with api() as client:
        try:
            return client.read_deployment_by_name(f"{FLOW}/{name}")
        except ObjectNotFound:
            return None


def create_run(deployment_id: UUID, parameters: Mapping[str, Any]) -> FlowRun:
    """Create a flow run that only we will start: a pending one is nothing that workers and runners look for."""
    with api() as client:
        return client.create_flow_run_from_deployment(deployment_id, parameters=dict(parameters), state=Pending())


def is_cancelling(run_id: UUID) -> bool:
    """Whether somebody asked Prefect to cancel a flow run."""
    with api() as client:
        state = client.read_flow_run(run_id).state
    return state is not None and (state.is_cancelling() or state.is_cancelled())


def set_final_state(run_id: UUID, wanted: State[Any]) -> State[Any]:
    """Give a flow run a last state, unless it has one of its own; return the one that it has then.

    A process that was ended crashed in Prefect's eyes; when the user wanted its end, the run is cancelled.
    """
    with api() as client:
        state = client.read_flow_run(run_id).state
        if state is not None and state.is_final() and not (state.is_crashed() and wanted.is_cancelled()):
            return state
        client.set_flow_run_state(run_id, wanted, force=True)
        return wanted


def run_url(run_id: UUID) -> str:
    """Return the address of a flow run's page."""
    return url_for("flow-run", obj_id=run_id) or ""


def ensure_work_pool(name: str) -> bool:
    """Create a process work pool of this name if there is none; tell whether it was created."""
    with api() as client:
        try:
            client.read_work_pool(name)
        except ObjectNotFound:
            template = ProcessWorker.get_default_base_job_template()
            client.create_work_pool(WorkPoolCreate(name=name, type=ProcessWorker.type, base_job_template=template))
            return True
    return False
