"""Runners on Dask and Ray: an existing cluster, or a local one for the duration of the run.

Both retry a shard whose process was killed, up to three times; the retry calls only items without a record in the
ledger. Workers of an existing cluster need the flow's `PREFECT_API_URL`, API keys, and the folders of the job.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from typing import Any

from prefect.task_runners import TaskRunner

from batch_llm.errors import JobError

from .submitter import ShardSubmitter, ShardWorkload, submitting

LOOPBACK = "127.0.0.1"
OBJECT_STORE_BYTES = 80_000_000
"""Ray's minimum; a shard's arguments and its outcome are a few kilobytes."""

_OWN_RAY = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # listen only on loopback, which `_node_ip_address` does not do
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # else it packs the flow's folder and works in a copy of it
    "RAY_USAGE_STATS_ENABLED": "0",
}
"""Environment variables that Ray reads on import."""


@contextmanager
def on_dask(load: ShardWorkload) -> Generator[ShardSubmitter]:
    """Run shards on Dask: https://docs.prefect.io/integrations/prefect-dask."""
    from distributed.comm.addressing import get_address_host_port
    from distributed.scheduler import KilledWorker
    from prefect_dask.task_runners import DaskTaskRunner

    address = load.job.runner_options.address
    own = {
        "n_workers": load.processes(),
        "threads_per_worker": 1,
        "processes": True,
        "host": LOOPBACK,
        "dashboard_address": None,
    }
    logging.getLogger("distributed").setLevel(logging.WARNING)  # else some 60 lines a run
    dask: Any = DaskTaskRunner
    runner = dask(address=address) if address else dask(cluster_kwargs=own)

    def room() -> int:
        if address:
            get_address_host_port(address)  # a client that fails on a bad address is never closed
        return sum(runner.client.nthreads().values())

    with _entered(load, runner, room) as at_once:
        yield ShardSubmitter(submitting(runner, load.task), lambda: at_once, (KilledWorker,))


@contextmanager
def on_ray(load: ShardWorkload) -> Generator[ShardSubmitter]:
    """Run shards on Ray: https://docs.prefect.io/integrations/prefect-ray."""
    if not load.job.runner_options.address:
        os.environ.update(_OWN_RAY)
    import ray
    from prefect_ray import RayTaskRunner
    from ray.exceptions import RayError

    address = load.job.runner_options.address
    own = {
        "num_cpus": load.processes(),
        "include_dashboard": False,
        "object_store_memory": OBJECT_STORE_BYTES,
        "_node_ip_address": LOOPBACK,
        "log_to_driver": False,
    }
    made: Any = RayTaskRunner
    resources: Any = ray.cluster_resources
    runner = made(address=address) if address else made(init_kwargs=own)
    with _entered(load, runner, lambda: int(resources().get("CPU", 1))) as at_once:
        yield ShardSubmitter(submitting(runner, load.task), lambda: at_once, (RayError,))


@contextmanager
def _entered(load: ShardWorkload, runner: TaskRunner[Any], room: Callable[[], int]) -> Generator[int]:
    """Enter the cluster's task runner; yield how many shards run at once. Errors are raised as one line."""
    with ExitStack() as stack:
        try:
            stack.enter_context(runner)
            at_once = load.at_once(max(1, room()))
        except (OSError, RuntimeError, ValueError) as error:
            where = load.job.runner_options.address or "this machine"
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise JobError(f"runner {load.job.runner!r} is not available at {where}: {reason}") from error
        yield at_once
