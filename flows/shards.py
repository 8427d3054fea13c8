"""The flow `batch-llm-shards`: runs shards of a run that another process, perhaps on another machine, planned.

A run with `runner: pool` deploys and starts it.
"""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Failed

from batch_llm.errors import JobError
from batch_llm.jobs import BatchJob
from batch_llm.prefect import carry_shards, prepare_log_handlers


@flow(name="batch-llm-shards", flow_run_name="shards of {run_id}", validate_parameters=False)
def shards(job: dict[str, Any], run_id: str) -> State[Any]:
    """Run shards of another run until none is left."""
    prepare_log_handlers()
    try:
        return carry_shards(BatchJob.parse(job), run_id)
    except JobError as error:
        return Failed(message=str(error))
