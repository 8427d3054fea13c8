"""Warning about a source with fewer rows than in the last complete run, such as an incomplete export."""

from __future__ import annotations

import re
from collections.abc import Sequence

import duckdb

from batch_llm.jobs.job import BatchJob
from batch_llm.jobs.ledger.lease import BEGAN
from batch_llm.jobs.storage.duckdb_session import Tables, text
from batch_llm.jobs.storage.store import Store

MOST_LOST = 0.1
"""Maximum share of missing rows without a warning."""

_CHANGES = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|\d+")
_PLAN = {"planned_at": "DOUBLE", "lease": "BIGINT", "source": "VARCHAR", "limit": "BIGINT"}
_SUMMARY = {"total_items": "BIGINT", "not_attempted": "BIGINT", "stopped": "VARCHAR"}
_LARGEST = 16 * 1024 * 1024  # a plan lists every shard


def shrunk_source(tables: Tables, job: BatchJob, runs: Store, total: int) -> str:
    """Return a warning if a source has more than 10 % fewer rows than in the last complete run; else empty text.

    Dates and numbers in the source's name may differ, as in nightly exports. Other sources and sources that are cut by
    `limit` are not compared.

    Args:
        tables: The session.
        job: The job.
        runs: The ledger folder of the job's name.
        total: Rows of the source, including broken rows.
    """
    if job.limit is not None and total >= job.limit:
        return ""
    try:
        complete = _complete_runs(tables, runs)
    except (OSError, duckdb.Error):
        return ""  # the code that needs the ledger reports that it cannot be read
    source = _CHANGES.sub("0", job.source)
    run, before = next(((run, rows) for run, rows, place in complete if _CHANGES.sub("0", place) == source), ("", 0))
    if total >= (1 - MOST_LOST) * before:
        return ""
    return (
        f"The source has {total:,} rows, {1 - total / before:.0%} fewer than the {before:,} of the last complete run "
        f"({run[:8]}): check that it is complete"
    )


def _complete_runs(tables: Tables, runs: Store) -> list[tuple[str, int, str]]:
    """Return id, number of rows and source of the complete runs, the newest first."""
    ended = [name.partition("/")[0] for name in runs.names("*/summary.json")]
    if not ended:
        return []
    plans = _objects(tables, runs, [f"{run}/plan.json" for run in ended], _PLAN)
    summaries = _objects(tables, runs, [f"{run}/summary.json" for run in ended], _SUMMARY)
    rows = tables.execute(f"""
        SELECT run, total_items, source FROM ({plans}) JOIN ({summaries}) USING (run)
        WHERE coalesce(stopped, '') = '' AND not_attempted = 0 AND source IS NOT NULL
            AND ("limit" IS NULL OR total_items < "limit")
        ORDER BY {BEGAN} DESC, lease DESC""").fetchall()
    return [(str(run), int(total), str(source)) for run, total, source in rows]


def _objects(tables: Tables, runs: Store, names: Sequence[str], columns: dict[str, str]) -> str:
    files = ", ".join(text(file) for file in runs.for_tables(tables, list(names)))
    types = ", ".join(f"{text(column)}: {text(kind)}" for column, kind in columns.items())
    return (
        f"SELECT * EXCLUDE (filename), parse_filename(parse_dirpath(filename)) AS run FROM read_json([{files}], "
        f"columns={{{types}}}, filename=true, ignore_errors=true, format='newline_delimited', "
        f"maximum_object_size={_LARGEST})"
    )
