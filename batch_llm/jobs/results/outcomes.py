"""Outcomes of all items of a run, as one table: answers, failures, reused answers, and items not attempted."""

from __future__ import annotations

import json
from typing import Any

from batch_llm.errors import ErrorInfo
from batch_llm.items import AnyResult, BatchResult, WorkItemResult
from batch_llm.jobs.ledger.record_lookup import collected_records
from batch_llm.jobs.ledger.record_views import FINGERPRINT, drop_repeats, view_records
from batch_llm.jobs.ledger.records import INVALID_INPUT, record_files
from batch_llm.jobs.ledger.run_folder import RunFolder
from batch_llm.jobs.storage.duckdb_session import Tables, execute, file_text, open_tables, text

LEFT_OUT = "left_out"
FAILURES_FIRST = "array_position(['failed', 'skipped', 'not_attempted', 'left_out', 'succeeded'], status)"
_COLUMNS: tuple[str, ...] = (
    "id",
    "status",
    "output",
    "error",
    "error_category",
    "input_tokens",
    "output_tokens",
    "attempts",
    "seconds",
    "cost_usd",
    "reused",
    "finish_reason",
)
_NOT_ATTEMPTED = "the run stopped before this item; run the job again to continue"
_LEFT_OUT = "not selected by only_failed or only_truncated; run the job without them to include this item"


def write_outcomes(tables: Tables, folder: RunFolder) -> None:
    """Write the outcome of each item to the run's folder, and create the view `outcomes` in the session.

    Columns: position, id, key, reused, status, output, input_tokens, output_tokens, cost_usd, attempts, seconds,
    error_category, error, finished_at, finish_reason, call_seconds. An item that was tried several times in this run
    has the sums of its records, except for call_seconds; a success counts over any failure. Everything except the
    answers is joined first, so that the answers of millions of items are only streamed through, once.

    Args:
        tables: The session.
        folder: The folder of the run.
    """
    files = record_files(folder.store, "ledger/*.jsonl")
    view_records(tables, folder.store, files)
    execute(
        tables,
        """
        CREATE OR REPLACE TEMP TABLE tries AS
        SELECT fingerprint, coalesce(max(stamp) FILTER (status = 'succeeded'), max(stamp)) AS last,
            sum(input_tokens)::BIGINT AS input_tokens, sum(output_tokens)::BIGINT AS output_tokens,
            sum(cached_input_tokens)::BIGINT AS cached_input_tokens,
            sum(estimated_tokens)::BIGINT AS estimated_tokens,
            sum(attempts)::BIGINT AS attempts,
            sum(seconds) AS seconds, CASE WHEN count(cost_usd) = count(*) THEN sum(cost_usd) END AS cost_usd
        FROM records GROUP BY fingerprint""",
    )
    execute(
        tables,
        f"""
        CREATE OR REPLACE TEMP TABLE known AS
        SELECT position, tries.*, old.position IS NOT NULL AS reused
        FROM (SELECT position, {FINGERPRINT} AS fingerprint FROM {file_text(folder.items)})
        LEFT JOIN tries USING (fingerprint)
        LEFT JOIN (SELECT position FROM {file_text(folder.reused)}) AS old USING (position)""",
    )
    with collected_records(tables, folder.store, files, _TRIED, _OF_TRIED, folder.collected) as tried:
        parts = (tried, _reused(folder), _broken(folder), _left(folder))
        execute(tables, f"COPY ({' UNION ALL '.join(parts)}) TO {text(folder.outcomes)}")
    drop_repeats(tables, folder.outcomes)
    tables.execute(f"CREATE TEMP VIEW outcomes AS FROM {file_text(folder.outcomes)}")


_TRIED = "(SELECT *, last AS stamp FROM known WHERE NOT reused)"
_OF_TRIED = """position, id, key, false AS reused, status, output, wanted.input_tokens, wanted.output_tokens,
    wanted.cost_usd, wanted.attempts, wanted.seconds, category AS error_category, error, finished_at, finish_reason,
    call_seconds"""


def _broken(folder: RunFolder) -> str:
    return f"""
    SELECT position, id, key, false, 'failed', NULL, 0, 0, 0, 0, 0, {text(INVALID_INPUT)}, error, NULL, NULL, NULL
    FROM {file_text(folder.items)} WHERE error IS NOT NULL"""


def _reused(folder: RunFolder) -> str:
    return f"""
    SELECT position, id, key, true, status, output, input_tokens, output_tokens,
        cost_usd, attempts, seconds, NULL, NULL, finished_at, finish_reason, call_seconds
    FROM {file_text(folder.reused)}"""


def _left(folder: RunFolder) -> str:
    return f"""
    SELECT position, id, key, false, why[1], NULL, 0, 0, 0, 0, 0, why[1], why[2], NULL, NULL, NULL
    FROM {file_text(folder.items)} JOIN (
        SELECT position, CASE WHEN chosen.position IS NULL THEN [{text(LEFT_OUT)}, {text(_LEFT_OUT)}]
            ELSE ['not_attempted', {text(_NOT_ATTEMPTED)}] END AS why
        FROM known LEFT JOIN {file_text(folder.called)} AS chosen USING (position) WHERE last IS NULL AND NOT reused
    ) USING (position) WHERE error IS NULL"""


def result_rows(run: RunFolder, limit: int) -> BatchResult[Any, dict[str, Any]]:
    """Return results of a merged run, failures first, for a table.

    The context of each result contains `status`, `cost_usd` and `reused`. The totals are those of the returned rows;
    the totals of the run are in its summary.

    Args:
        run: The run's folder.
        limit: Largest number of results.

    Example:
        >>> result_rows(run_folder(job, run_id), limit=10).results[0].error
    """
    with open_tables() as tables:
        return read_results(tables, file_text(run.outcomes), f"{FAILURES_FIRST}, position", limit)


def read_results(tables: Tables, source: str, order: str, limit: int) -> BatchResult[Any, dict[str, Any]]:
    """Return rows of a table with the columns of `outcomes`, as `result_rows` does.

    Args:
        tables: The session.
        source: SQL of the table.
        order: SQL expressions to sort by.
        limit: Largest number of rows.
    """
    query = f"SELECT {', '.join(_COLUMNS)} FROM {source} ORDER BY {order} LIMIT {limit}"
    rows = [dict(zip(_COLUMNS, row, strict=True)) for row in execute(tables, query).fetchall()]
    return BatchResult([_result(row) for row in rows])


def _result(row: dict[str, Any]) -> AnyResult:
    succeeded = row["status"] == "succeeded"
    tokens = {name: int(row[name]) for name in ("input_tokens", "output_tokens")}
    return WorkItemResult(
        item_id=row["id"],
        success=succeeded,
        output=json.loads(row["output"]) if succeeded and row["output"] is not None else None,
        error=row["error"],
        context={name: row[name] for name in ("status", "cost_usd", "reused")},
        token_usage={**tokens, "total_tokens": sum(tokens.values())},
        error_info=None if succeeded else ErrorInfo(is_retryable=False, category=row["error_category"]),
        attempts=int(row["attempts"]),
        duration_seconds=float(row["seconds"]),
        finish_reason=row["finish_reason"],
    )
