"""What became of each item of a run, as one table: the ledger's last word, the reused answers, and what is left."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from batch_llm.errors import ErrorInfo
from batch_llm.items import AnyResult, BatchResult, WorkItemResult

from .folder import RunFolder
from .job import BatchJob
from .ledger import ledger_query
from .rows import items_query
from .tables import open_tables, text

_NOT_ATTEMPTED = "the run ended before this item; run it again to go on"


def outcomes(folder: RunFolder) -> str:
    """Return SQL for one row an item: position, id, status, output, tokens, cost, attempts, seconds, error, reused.

    An item that was tried several times in this run has the sums of its tries; a success stands against any failure.
    """
    return f"""
        WITH tries AS ({ledger_query(folder.ledger.glob("*.jsonl"))}),
        mine AS (
            SELECT id, key, max_by(tries, (tries.status = 'succeeded', tries.finished_at)) AS last,
                sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens, sum(attempts) AS attempts,
                sum(seconds) AS seconds, CASE WHEN count(cost_usd) = count(*) THEN sum(cost_usd) END AS cost_usd
            FROM tries GROUP BY id, key),
        found AS (
            SELECT items.position, items.id, mine.id IS NULL AND old.position IS NOT NULL AS reused,
                mine.last AS last, mine, old
            FROM ({items_query(folder.items)}) AS items
            LEFT JOIN mine ON mine.id = items.id AND mine.key = items.key
            LEFT JOIN {text(folder.reused)} AS old ON old.position = items.position)
        SELECT position, id, reused,
            CASE WHEN reused THEN old.status ELSE coalesce(last.status, 'not_attempted') END AS status,
            CASE WHEN reused THEN old.output ELSE last.output END AS output,
            CASE WHEN reused THEN old.input_tokens ELSE coalesce(mine.input_tokens, 0) END AS input_tokens,
            CASE WHEN reused THEN old.output_tokens ELSE coalesce(mine.output_tokens, 0) END AS output_tokens,
            CASE WHEN reused THEN old.cost_usd WHEN last IS NULL THEN 0 ELSE mine.cost_usd END AS cost_usd,
            CASE WHEN reused THEN old.attempts ELSE coalesce(mine.attempts, 0) END AS attempts,
            CASE WHEN reused THEN old.seconds ELSE coalesce(mine.seconds, 0) END AS seconds,
            CASE WHEN reused THEN NULL WHEN last IS NULL THEN 'not_attempted' ELSE last.category END AS error_category,
            CASE WHEN reused THEN NULL WHEN last IS NULL THEN {text(_NOT_ATTEMPTED)} ELSE last.error END AS error
        FROM found"""


def result_rows(job: BatchJob, folder: str, limit: int) -> BatchResult[Any, dict[str, Any]]:
    """Return up to `limit` results of a run, failures first, for a table.

    The context of each holds `status`, `cost_usd` and `reused`. The totals are those of the rows returned; a run's
    own are in its summary.
    """
    columns = (
        "id, status, output, error, error_category, input_tokens, output_tokens, attempts, seconds, cost_usd, reused"
    )
    query = f"""SELECT {columns} FROM ({outcomes(RunFolder(Path(folder)))})
        ORDER BY array_position(['failed', 'skipped', 'not_attempted', 'succeeded'], status), position LIMIT {limit}"""
    with open_tables() as tables:
        names = [column.strip() for column in columns.split(",")]
        rows = [dict(zip(names, row, strict=True)) for row in tables.execute(query).fetchall()]
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
    )
