"""Measured CPU time, memory and server load of a run, each with the command that measures it.

Measured on a typical cloud machine with two cores, with Python 3.11 and Prefect 3.8.8 on SQLite. A machine that is
twice as fast needs half the time.
"""

from __future__ import annotations

# `python -m tests.benchmarks.clients`: the CPU of a call and its answer in a process, engine and ledger included.
CALL_SECONDS = 0.004
"""CPU seconds of a call through `ModelStrategy`, which jobs use."""

AGENT_CALL_SECONDS = 0.014
"""CPU seconds of a call through `PydanticAIStrategy`."""

# `python -m tests.benchmarks.million --items 2000 100000 1000000`; memory also `python -m tests.benchmarks.simulated`
START_SECONDS = 6.0
"""Duration from the command to the plan: imports, and the flow run's first requests to the server."""

PLAN_SECONDS, PLAN_SECONDS_AN_ITEM = 0.5, 60e-6
PROCESS_SECONDS = 8.0
"""Start-up time of a pool process; all processes start at the same time."""

SHARD_SECONDS = 0.15
"""Overhead between two shards of a process: states of the task run, files, first calls."""

PUBLISH_SECONDS, PUBLISH_SECONDS_AN_ITEM = 3.5, 30e-6

FLOW_BYTES = 172e6
"""Memory of the flow's process after imports."""

PROCESS_BYTES = 170e6
"""Memory of each pool process."""

MOST_TABLE_BYTES, HALF_TABLE_ITEMS, TABLE_POWER = 763e6, 450_000, 0.6
"""Additional memory of the merge. It grows more slowly than the items, because DuckDB spills to disk: a curve fitted to
measurements from a thousand to ten million items (`python -m tests.benchmarks.second_run --items 10000000`), which
reaches half of its maximum at `HALF_TABLE_ITEMS`."""

WORKER_BYTES = 150e3
"""Memory of a call in flight: item, task and connection."""

SERVER_BYTES = 235e6
"""Memory of the Prefect server with SQLite."""

RUN_REQUESTS, SHARD_REQUESTS = 40.0, 3.0
"""Requests to the Prefect server per run and per shard that do not depend on the duration."""

SECONDS_A_PROGRESS, SECONDS_A_SHARING = 2.0, 3.0
"""Interval of progress updates of a run, and of requests of each process that shares a rate limit."""

RUN_EVENTS, SHARD_EVENTS = 25.0, 4.0
RUN_DATABASE_BYTES, SHARD_DATABASE_BYTES = 0.6e6, 29e3
"""Growth of Prefect's database per run and per shard."""
