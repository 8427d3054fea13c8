"""The flow `batch-llm-shards`: carries shards of a run that another process, perhaps on another machine, has planned.

A run with `runner: pool` deploys it and starts it; nobody else needs to.
"""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Failed

from batch_llm.errors import JobError
from batch_llm.jobs import BatchJob
from batch_llm.prefect import carry_shards


@flow(name="batch-llm-shards", flow_run_name="shards of {run_id}", validate_parameters=False)
def shards(job: dict[str, Any], run_id: str) -> State[Any]:
    """Carry shards of a run until none is left."""
    try:
        return carry_shards(BatchJob.parse(job), run_id)
    except JobError as error:
        return Failed(message=str(error))
