"""Totals of a run that is running or has crashed, from its records."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from batch_llm.jobs.ledger.record_views import view_records
from batch_llm.jobs.ledger.records import INVALID_INPUT, record_files
from batch_llm.jobs.run_types import Summary
from batch_llm.jobs.spending.budgets import budget_status_of
from batch_llm.jobs.storage.duckdb_session import Tables, execute
from batch_llm.jobs.storage.store import Store

_ITEMS = """
    CREATE OR REPLACE TEMP TABLE items AS
    SELECT bool_or(status = 'succeeded') AS succeeded, arg_max(category, stamp) AS category,
        sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens,
        CASE WHEN count(cost_usd) = count(*) THEN sum(cost_usd) END AS cost_usd, max(finished_at) AS finished_at,
        coalesce(arg_max(finish_reason, finished_at) FILTER (status = 'succeeded'),
            arg_max(finish_reason, finished_at)) AS finish_reason
    FROM tries GROUP BY fingerprint"""
"""The items of a run that has no totals yet, from the records of all their tries."""

_TOTALS = """
    SELECT count(*) FILTER (succeeded), coalesce(sum(input_tokens), 0)::BIGINT,
        coalesce(sum(output_tokens), 0)::BIGINT,
        CASE WHEN count(cost_usd) = count(*) THEN coalesce(sum(cost_usd), 0) END, epoch(max(finished_at)),
        count(*) FILTER (finish_reason = 'length')
    FROM items"""


def totals_so_far(tables: Tables, run: Store, plan: Mapping[str, Any], *, is_running: bool) -> Summary:
    """Return the totals of a run that has no summary; missing items are `not_attempted`.

    Args:
        tables: The session.
        run: The run's folder in the ledger.
        plan: Content of plan.json.
        is_running: Whether the run still adds records.
    """
    planned_at = float(plan.get("planned_at", 0.0))
    files = record_files(run, "ledger/*.jsonl")
    view_records(tables, run, files, view="tries")
    execute(tables, _ITEMS)
    row = tables.execute(_TOTALS).fetchone()
    succeeded, tokens_in, tokens_out, cost, last, truncated = row or (0, 0, 0, 0.0, None, 0)
    failed = tables.execute("SELECT category, count(*) FROM items WHERE NOT succeeded GROUP BY 1 ORDER BY 2 DESC, 1")
    counts = {
        name: int(plan.get(name, 0))
        for name in ("total", "broken", "reused", "changed", "retried", "refreshed", "left_out")
    }
    categories = {str(category): int(count) for category, count in failed.fetchall()}
    if counts["broken"]:
        categories[INVALID_INPUT] = counts["broken"]
    done, failures = succeeded + counts["reused"], sum(categories.values())
    return Summary(
        total_items=counts["total"],
        succeeded=done,
        failed=failures,
        not_attempted=max(0, counts["total"] - done - failures - counts["left_out"]),
        left_out=counts["left_out"],
        reused=counts["reused"],
        new=counts["total"] - sum(counts[name] for name in ("broken", "reused", "changed", "retried", "refreshed")),
        changed=counts["changed"],
        retried=counts["retried"],
        refreshed=counts["refreshed"],
        total_input_tokens=tokens_in,
        total_output_tokens=tokens_out,
        cost_usd=cost,
        saved_usd=None,
        seconds=max(0.0, (time.time() if is_running else last or planned_at) - planned_at),
        output="",
        failures=None,
        categories=categories,
        truncated=truncated,
        budgets=[limit.as_json() for limit in budget_status_of(plan.get("budgets", {}), run)],
    )
