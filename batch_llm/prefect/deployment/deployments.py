"""Deployments and flow runs of presets, through Prefect's API."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, cast
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate, DeploymentUpdate, WorkPoolCreate
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import construct_schedule
from prefect.deployments.runner import RunnerDeployment
from prefect.exceptions import ObjectNotFound
from prefect.states import Pending
from prefect.utilities.urls import url_for
from prefect.workers.process import ProcessWorker
from pydantic import ValidationError

from batch_llm.jobs import project_folder
from batch_llm.prefect.api import api, one_line
from batch_llm.prefect.flow_channel import FlowState

FLOW_FOLDER = "."
"""Folder that Prefect copies into the working folder of the process that serves a deployment, before each run.

By default it is the working folder of the process that registered the deployment first, so that serving from another
folder would overwrite files there. The entrypoint of the flow is an absolute path: nothing has to be copied.
"""

Block = Mapping[str, Any]
"""One block of `deployments/prefect.yaml`."""

FLOW = "batch-llm"


def flow_entrypoint(block: Block) -> str:
    """Return the entrypoint of the block's flow: absolute path and function."""
    file, _, function = str(block["entrypoint"]).rpartition(":")
    return f"{project_folder() / file}:{function}"


def local_deployment(block: Block) -> RunnerDeployment:
    """Return the block as a deployment without a work pool, for `batch-llm serve` and `batch-llm run`."""
    deployment = RunnerDeployment.from_entrypoint(
        flow_entrypoint(block),
        name=str(block["name"]),
        description=block.get("description"),
        tags=list(block.get("tags") or ()),
        parameters=dict(block.get("parameters") or {}),
        schedules=[_schedule(schedule) for schedule in block.get("schedules") or ()] or None,
    )
    deployment._path = FLOW_FOLDER  # pyright: ignore[reportPrivateUsage]  no other way
    return deployment


def _schedule(schedule: Mapping[str, Any]) -> DeploymentScheduleCreate:
    times = {name: schedule.get(name) for name in ("cron", "rrule", "interval", "anchor_date", "timezone")}
    return DeploymentScheduleCreate(schedule=construct_schedule(**times), active=schedule.get("active", True))


_BLOCK = {
    *("name", "description", "tags", "version", "version_type", "entrypoint", "parameters", "enforce_parameter_schema"),
    *("schedules", "paused", "concurrency_limit", "work_pool", "build", "push", "pull", "triggers", "sla"),
    "flow_name",
}
"""Keys of a deployment in `prefect.yaml`: https://docs.prefect.io/v3/how-to-guides/deployments/prefect-yaml"""


def problem_of(block: Block) -> str:
    """Return why Prefect would refuse a block, or ignore a part of it; empty if there is no reason."""
    for key in block.keys() - _BLOCK:
        if near := difflib.get_close_matches(str(key), _BLOCK, n=1):
            return f"{key} is not a key of a deployment: did you mean {near[0]}?"
    file, _, function = str(block.get("entrypoint", "")).rpartition(":")
    if not file or not function or not (project_folder() / file).is_file():
        return f"entrypoint {block.get('entrypoint')!r} is not a file and a function, such as flows/batch.py:batch"
    for schedule in block.get("schedules") or ():
        try:
            _schedule(schedule)
        except (ValueError, TypeError, AttributeError) as error:
            return f"schedule {schedule!r} is not valid: {_reason(error)}"
    return ""


def _reason(error: Exception) -> str:
    """Return the reason of an error in one line; pydantic's text ends with a link to its documentation."""
    if isinstance(error, ValidationError):
        return "; ".join(each["msg"].removeprefix("Value error, ") for each in error.errors())
    return one_line(error)


def leftover_schedules(block: Block) -> list[tuple[str, UUID]]:
    """Return the active schedules of a preset's deployment at the server that the preset does not have."""
    with api() as client:
        deployed = _find(client, str(block["name"]))
    known = [_schedule(schedule).schedule for schedule in block.get("schedules") or ()]
    active = [each for each in (deployed.schedules if deployed else ()) if each.active and each.schedule not in known]
    return [(_shown(each.schedule), each.id) for each in active]


def _shown(schedule: object) -> str:
    facts = {name: getattr(schedule, name, None) for name in ("cron", "rrule", "interval")}
    return next((f"{name} {value}" for name, value in facts.items() if value is not None), "schedule")


def deployment_to_serve(block: Block) -> RunnerDeployment:
    """Return the block as a deployment; a schedule that was switched on at the server stays on.

    A deployment with a work pool is deleted first: Prefect's update would keep the pool but remove the location of the
    flow, so that runs crash.
    """
    with api() as client:
        return _to_serve(local_deployment(block), _find(client, str(block["name"])))


def _to_serve(deployment: RunnerDeployment, known: DeploymentResponse | None) -> RunnerDeployment:
    with api() as client:
        if known and known.work_pool_name:
            client.delete_deployment(known.id)
        elif known and known.path != FLOW_FOLDER:  # Prefect's update leaves it as it is
            client.update_deployment(known.id, DeploymentUpdate(path=FLOW_FOLDER))
    for schedule in deployment.schedules or ():
        switched_on = [old for old in known.schedules if old.active] if known else []
        schedule.active = schedule.active or any(old.schedule == schedule.schedule for old in switched_on)
    return deployment


def ensure_deployment(block: Block) -> UUID:
    """Return the id of the preset's deployment; create or update it from the block unless it has a work pool."""
    with api() as client:
        known = _find(client, str(block["name"]))
        if known is not None and known.work_pool_name:
            return known.id
        wanted = _to_serve(local_deployment(block), known)
        if known is not None and _is_current(known, wanted):
            return known.id
        # In a running event loop, `apply` returns a coroutine instead.
        return cast("UUID", wanted.apply())


_COMPARED = ("description", "tags", "parameters", "entrypoint", "enforce_parameter_schema")


def _is_current(known: DeploymentResponse, wanted: RunnerDeployment) -> bool:
    """Return whether an update would change nothing but the version, for which Prefect calls git."""
    schema = wanted._parameter_openapi_schema.model_dump(exclude_unset=True)  # pyright: ignore[reportPrivateUsage]  no other
    schedules = [(each.schedule, each.active) for each in wanted.schedules or known.schedules]
    return (
        all(getattr(known, name) == getattr(wanted, name) for name in _COMPARED)
        and known.parameter_openapi_schema == schema
        and not known.pull_steps
        and known.path == FLOW_FOLDER
        and [(each.schedule, each.active) for each in known.schedules] == schedules
    )


def _find(client: SyncPrefectClient, name: str) -> DeploymentResponse | None:
    try:
        return client.read_deployment_by_name(f"{FLOW}/{name}")
    except ObjectNotFound:
        return None


def create_run(deployment_id: UUID, parameters: Mapping[str, Any]) -> FlowRun:
    """Create a flow run that only the caller starts: workers and runners do not pick up pending runs."""
    with api() as client:
        return client.create_flow_run_from_deployment(deployment_id, parameters=dict(parameters), state=Pending())


def is_cancelling(run_id: UUID) -> bool:
    """Return whether a flow run is cancelled or being cancelled."""
    with api() as client:
        state = client.read_flow_run(run_id).state
    return state is not None and (state.is_cancelling() or state.is_cancelled())


def read_final_state(run_id: UUID) -> FlowState | None:
    """Return the final state of a flow run; None if it has none."""
    with api() as client:
        return _final(client.read_flow_run(run_id).state)


def set_final_state(run_id: UUID, wanted: FlowState) -> FlowState:
    """Set the final state of a flow run unless it has one; return the state it has then.

    Prefect records a terminated process as crashed; `wanted` replaces that state when the user cancelled the run.
    """
    with api() as client:
        state = _final(client.read_flow_run(run_id).state)
        if state is not None and not (state.is_crashed() and wanted.is_cancelled()):
            return state
        new: State[Any] = State(type=StateType(wanted.type), name=wanted.name, message=wanted.message)
        client.set_flow_run_state(run_id, new, force=True)
        return wanted


def _final(state: State[Any] | None) -> FlowState | None:
    if state is None or not state.is_final():
        return None
    return FlowState(state.type.value, state.name or "", state.message or "")


def run_url(run_id: UUID) -> str:
    """Return the address of a flow run's page."""
    return url_for("flow-run", obj_id=run_id) or ""


def ensure_work_pool(name: str) -> bool:
    """Create a process work pool of this name if it does not exist; return whether it was created."""
    with api() as client:
        try:
            client.read_work_pool(name)
        except ObjectNotFound:
            template = ProcessWorker.get_default_base_job_template()
            client.create_work_pool(WorkPoolCreate(name=name, type=ProcessWorker.type, base_job_template=template))
            return True
    return False
