"""Batches as Prefect flows: the only place that imports Prefect."""

from .batch import final_state, run_batch, run_name
from .observer import PrefectObserver
from .parameters import parameters_of
from .pool import carry_shards
from .retries import ShardUnfinished, retry_options
from .settings import with_common_settings
from .tasks import plan, publish, run_shard

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
