"""Statistics of a run from its ledger: throughput, latency, and an example of each category of failures."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from batch_llm.jobs.job import BatchJob
from batch_llm.jobs.ledger.record_views import view_records
from batch_llm.jobs.ledger.records import record_files
from batch_llm.jobs.ledger.run_folder import open_folder
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
        p50_seconds: Median duration of these items; None if there are none.
        p95_seconds: 95th percentile of their duration; None if there are none.
    """

    answered: int = 0
    failed: int = 0
    p50_seconds: float | None = None
    p95_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class RunStats:
    """Statistics of the calls of one run, without reused answers.

    Attributes:
        folder: The run's folder.
        items_per_second: Throughput from the start of the first call to the end of the last call.
        p50_seconds: Median duration of an item, including waits and retries.
        p95_seconds: 95th percentile of the duration of an item.
        p99_seconds: 99th percentile of the duration of an item.
        attempts: Number of attempts, including rate-limited attempts; a re-ask is part of its attempt.
        tried_again: Items that were called more than once.
        cached_input_tokens: Input tokens from the provider's cache.
        slowest: Id, seconds and attempts of the slowest items.
        examples: One error message for each category of failures.
        slice_seconds: Duration of a slice.
        slices: Slices of the run's time, from the start of the first call to the end of the last call.
    """

    folder: str
    items_per_second: float = 0.0
    p50_seconds: float = 0.0
    p95_seconds: float = 0.0
    p99_seconds: float = 0.0
    attempts: int = 0
    tried_again: int = 0
    cached_input_tokens: int = 0
    slowest: list[tuple[str, float, int]] = field(default_factory=list[tuple[str, float, int]])
    examples: dict[str, str] = field(default_factory=dict[str, str])
    slice_seconds: float = 0.0
    slices: list[Slice] = field(default_factory=list[Slice])


# A table instead of a view, so that the files are parsed only once.
_CALLS = """
    CREATE OR REPLACE TEMP TABLE calls AS
    SELECT id, status, attempts, seconds, cached_input_tokens, epoch(finished_at) AS ended
    FROM records WHERE attempts > 0"""
_FIGURES = """
    SELECT min(ended - seconds), max(ended), count(*), approx_quantile(seconds, [0.5, 0.95, 0.99]),
        sum(attempts)::BIGINT, coalesce(sum(cached_input_tokens), 0)::BIGINT
    FROM calls"""
# An item has one record for each attempt of its shard. Only items that failed have several, and these are few.
_TRIED_AGAIN = """
    SELECT count(*) FROM (
        SELECT id FROM calls SEMI JOIN (SELECT id FROM calls WHERE attempts > 1 OR status = 'failed') USING (id)
        GROUP BY id HAVING sum(attempts) > 1)"""
_SLOWEST = "SELECT id, round(seconds, 2), attempts FROM calls ORDER BY seconds DESC, id LIMIT 5"
_EXAMPLES = """
    SELECT error_category, left(any_value(error), 2000) FROM outcomes
    WHERE status = 'failed' AND error IS NOT NULL GROUP BY error_category"""
# The numbers are part of the text: with parameters, DuckDB imports pandas if it is installed, which takes a second.
_SLICES = """
    SELECT floor((ended - {began!r}) / {seconds!r})::BIGINT AS slice, count(*) FILTER (status = 'succeeded'),
        count(*) FILTER (status = 'failed'), approx_quantile(seconds, 0.5), approx_quantile(seconds, 0.95)
    FROM calls GROUP BY slice"""


def run_stats(job: BatchJob, folder: str) -> RunStats:
    """Return the statistics of a merged run.

    Args:
        job: The job.
        folder: The run's folder.

    Example:
        >>> run_stats(job, plan.folder).items_per_second
    """
    run = open_folder(job, folder)
    with open_tables() as tables:
        view_records(tables, run.store, record_files(run.store, "ledger/*.jsonl"))
        execute(tables, _CALLS)
        tables.execute(f"CREATE TEMP VIEW outcomes AS FROM {file_text(run.outcomes)}")
        examples = {
            str(category): provider_first(str(error)) for category, error in tables.execute(_EXAMPLES).fetchall()
        }
        figures = execute(tables, _FIGURES).fetchone()
        if figures is None or figures[0] is None:
            return RunStats(folder, examples=examples)
        began, ended, items, (median, p95, p99), attempts, cached = figures
        return RunStats(
            folder,
            items_per_second=items / max(ended - began, 0.001),
            p50_seconds=median,
            p95_seconds=p95,
            p99_seconds=p99,
            attempts=attempts,
            tried_again=int((execute(tables, _TRIED_AGAIN).fetchone() or (0,))[0]),
            cached_input_tokens=cached,
            slowest=[
                (str(item), float(took), int(tries)) for item, took, tries in execute(tables, _SLOWEST).fetchall()
            ],
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
