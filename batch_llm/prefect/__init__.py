"""Batches as Prefect flows; the only package besides the command that imports Prefect.

A `BatchJob` comes in; a run with its output, events, artifacts and final state goes out.

Example:
    A flow with a batch in it::

        from prefect import flow
        from batch_llm.prefect import run_batch

        @flow
        def tickets() -> None:
            run_batch(source="tickets.csv", output="answers.csv", prompt="Is this urgent? {text}")
"""

from .batch import final_state, run_batch, run_name
from .console import prepare_log_handlers
from .parameters import parameters_of, with_common_settings
from .retries import ShardUnfinished, retry_options
from .scheduling.work_pool import carry_shards
from .tasks import plan, publish, run_shard
from .telemetry.observer import PrefectObserver

__all__ = [
    "PrefectObserver",
    "ShardUnfinished",
    "carry_shards",
    "final_state",
    "parameters_of",
    "plan",
    "prepare_log_handlers",
    "publish",
    "retry_options",
    "run_batch",
    "run_name",
    "run_shard",
    "with_common_settings",
]
