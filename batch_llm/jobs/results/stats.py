"""Statistics of a run over its time: what finished when, the slowest items, and examples of failures.

The figures of the whole run, such as its throughput and latency, are computed by the merge and are in its `Summary`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from batch_llm.jobs.ledger.run_folder import RunFolder
from batch_llm.jobs.provider_messages import provider_first
from batch_llm.jobs.storage.duckdb_session import Tables, execute, file_text, open_tables

MOST_SLICES = 60
"""Largest number of slices, which are parts of a run's time of equal length."""

_SLICES_SECONDS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)


@dataclass(frozen=True, slots=True)
class Slice:
    """Items that finished in one part of a run's time.

    Attributes:
        answered: Items with an answer.
        failed: Items that failed.
        p50_seconds: Median latency of these items; None without items.
        p95_seconds: 95th percentile of their latency; None without items.
    """

    answered: int = 0
    failed: int = 0
    p50_seconds: float | None = None
    p95_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class SlowItem:
    """One of the slowest items of a run.

    Attributes:
        item_id: Id of the item.
        seconds: Time from its start to its end, including waits, over all tries of its shard.
        call_seconds: Duration of its last call.
        attempts: Number of its calls.
    """

    item_id: str
    seconds: float
    call_seconds: float
    attempts: int


@dataclass(frozen=True, slots=True)
class RunStats:
    """Statistics of the items that one run called, without reused answers; each item counts once.

    Attributes:
        folder: The run's folder.
        tried_again: Items that were called more than once.
        slowest: The slowest items.
        examples: One error message for each category of failures.
        slice_seconds: Duration of a slice.
        slices: Slices of the run's time, from the start of the first call to the end of the last call.
    """

    folder: str
    tried_again: int = 0
    slowest: list[SlowItem] = field(default_factory=list[SlowItem])
    examples: dict[str, str] = field(default_factory=dict[str, str])
    slice_seconds: float = 0.0
    slices: list[Slice] = field(default_factory=list[Slice])


_CALLED = """
    CREATE TEMP VIEW called AS
    SELECT id, status, attempts, seconds, coalesce(call_seconds, seconds) AS call_seconds, epoch(finished_at) AS ended
    FROM outcomes WHERE NOT reused AND attempts > 0"""
_SPAN = "SELECT min(ended - seconds), max(ended), count(*) FILTER (attempts > 1) FROM called"
_SLOWEST = """
    SELECT id, round(seconds, 2), round(call_seconds, 2), attempts FROM called ORDER BY seconds DESC, id LIMIT 5"""
_EXAMPLES = """
    SELECT error_category, left(any_value(error), 2000) FROM outcomes
    WHERE status = 'failed' AND error IS NOT NULL GROUP BY error_category"""
# The numbers are part of the text: with parameters, DuckDB imports pandas if it is installed, which takes a second.
_SLICES = """
    SELECT floor((ended - {began!r}) / {seconds!r})::BIGINT AS slice, count(*) FILTER (status = 'succeeded'),
        count(*) FILTER (status = 'failed'), approx_quantile(call_seconds, 0.5), approx_quantile(call_seconds, 0.95)
    FROM called GROUP BY slice"""


def run_stats(run: RunFolder) -> RunStats:
    """Return the statistics of a merged run.

    Args:
        run: The run's folder.

    Example:
        >>> run_stats(run_folder(job, run_id)).slowest
    """
    with open_tables() as tables:
        tables.execute(f"CREATE TEMP VIEW outcomes AS FROM {file_text(run.outcomes)}")
        execute(tables, _CALLED)
        examples = {
            str(category): provider_first(str(error)) for category, error in tables.execute(_EXAMPLES).fetchall()
        }
        began, ended, tried_again = execute(tables, _SPAN).fetchone() or (None, None, 0)
        if began is None or ended is None:
            return RunStats(str(run.path), examples=examples)
        return RunStats(
            str(run.path),
            tried_again=tried_again,
            slowest=[SlowItem(*row) for row in execute(tables, _SLOWEST).fetchall()],
            examples=examples,
            slice_seconds=(seconds := slice_seconds(ended - began)),
            slices=_slices(tables, began, seconds),
        )


def slice_seconds(whole: float) -> float:
    """Return a round duration of slices, so that at most `MOST_SLICES` slices cover `whole` seconds."""
    fitting = (seconds for seconds in _SLICES_SECONDS if whole / seconds <= MOST_SLICES)
    return next(fitting, math.ceil(whole / MOST_SLICES / 3600) * 3600)


def _slices(tables: Tables, began: float, seconds: float) -> list[Slice]:
    rows = execute(tables, _SLICES.format(began=began, seconds=seconds)).fetchall()
    found = {int(at): Slice(*figures) for at, *figures in rows}
    return [found.get(at, Slice()) for at in range(max(found, default=-1) + 1)]
