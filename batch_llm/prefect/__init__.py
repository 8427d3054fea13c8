"""Batches as Prefect flows; the only package besides the command that imports Prefect.

A `BatchJob` comes in; a run with its output, events, artifacts and final state goes out. Prefect is imported when one
of the names is first used.

Example:
    A flow with a batch in it::

        from prefect import flow
        from batch_llm.prefect import run_batch

        @flow
        def tickets() -> None:
            run_batch(source="tickets.csv", output="answers.csv", prompt="Is this urgent? {text}")
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .batch import final_state, run_batch, run_name
    from .log_handlers import prepare_log_handlers
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

_MODULES = {
    "batch": ("final_state", "run_batch", "run_name"),
    "log_handlers": ("prepare_log_handlers",),
    "parameters": ("parameters_of", "with_common_settings"),
    "retries": ("ShardUnfinished", "retry_options"),
    "scheduling.work_pool": ("carry_shards",),
    "tasks": ("plan", "publish", "run_shard"),
    "telemetry.observer": ("PrefectObserver",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f".{_MODULE_OF[name]}", __name__), name)
    return value
