"""What things cost beside the calls themselves: measured constants, each with the command that measures it.

Measured on two cores of a common cloud machine, on Python 3.11 with Prefect 3.8.8 on SQLite. A machine that is twice as
fast needs half the seconds.
"""

from __future__ import annotations

# `python -m tests.benchmarks.clients`: the CPU of a call and its answer in a process, engine and ledger included.
CALL_SECONDS = 0.004
"""Of a core, for a call through `ModelStrategy`, as jobs make them."""

AGENT_CALL_SECONDS = 0.014
"""Of a core, for a call through `PydanticAIStrategy`."""

# `python -m tests.benchmarks.million --items 2000 100000 1000000`; memory also `python -m tests.benchmarks.simulated`
START_SECONDS = 6.0
"""From the command to the plan: imports, and the flow run's first words with the server."""

PLAN_SECONDS, PLAN_SECONDS_AN_ITEM = 0.5, 60e-6
PROCESS_SECONDS = 8.0
"""Until a process of a pool has imported what it needs; they start together."""

SHARD_SECONDS = 0.15
"""Between two shards of a process: the task run's states, its files, the first calls."""

PUBLISH_SECONDS, PUBLISH_SECONDS_AN_ITEM = 3.5, 30e-6

FLOW_BYTES = 172e6
"""The flow's process, with what it has imported."""

PROCESS_BYTES = 170e6
"""A process of a pool beside it."""

MOST_TABLE_BYTES, HALF_TABLE_ITEMS, TABLE_POWER = 763e6, 450_000, 0.6
"""What merging holds beyond that grows ever more slowly with the items, for DuckDB writes to disk what is more than its
part of the memory: a curve through what was measured from a thousand items to ten million (`python -m
tests.benchmarks.nights --items 10000000`), half of the most at `HALF_TABLE_ITEMS`."""

WORKER_BYTES = 150e3
"""A call in flight: its item, its task, its connection."""

SERVER_BYTES = 235e6
"""The Prefect server, with SQLite."""

RUN_REQUESTS, SHARD_REQUESTS = 40.0, 3.0
"""Requests to the Prefect server that do not depend on time."""

SECONDS_A_PROGRESS, SECONDS_A_SHARING = 2.0, 3.0
"""A run's progress is written once in so many seconds; each process's share of the limit costs a request in so many."""

RUN_EVENTS, SHARD_EVENTS = 25.0, 4.0
RUN_DATABASE_BYTES, SHARD_DATABASE_BYTES = 0.6e6, 29e3
"""Growth of Prefect's database."""
