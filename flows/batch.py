"""The flow `batch-llm`: plan, shards, publish. Each deployment in `deployments/prefect.yaml` is a preset of it."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Failed

from batch_llm.errors import BatchLLMError
from batch_llm.jobs import BatchJob
from batch_llm.prefect import (
    final_state,
    parameters_of,
    prepare_log_handlers,
    run_batch,
    run_name,
    with_common_settings,
)


# `BatchJob` validates the parameters: its errors are one line that says what to do.
@flow(name="batch-llm", flow_run_name=run_name, validate_parameters=False)
@parameters_of(BatchJob)
def batch(**parameters: Any) -> State[Any]:
    """Call a language model with a prompt for each row of a source."""
    prepare_log_handlers()
    try:
        job = BatchJob.parse(with_common_settings(parameters))
        return final_state(job, run_batch(job))
    except BatchLLMError as error:
        return Failed(message=str(error))
