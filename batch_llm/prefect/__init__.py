"""Batches as Prefect flows: the only place that imports Prefect."""

from .batch import final_state, run_batch, run_name
from .parameters import parameters_of, with_common_settings
from .retries import ShardUnfinished, retry_options
from .scheduling.pool import carry_shards
from .tasks import plan, publish, run_shard
from .telemetry.observer import PrefectObserver

__all__ = [
    "PrefectObserver",
    "ShardUnfinished",
    "carry_shards",
    "final_state",
    "parameters_of",
    "plan",
    "publish",
    "retry_options",
    "run_batch",
    "run_name",
    "run_shard",
    "with_common_settings",
]
