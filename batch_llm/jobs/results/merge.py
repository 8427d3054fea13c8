"""The merge: writes the output, the failures file and the totals of a run from its ledger."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import duckdb

from batch_llm.errors import JobError
from batch_llm.jobs.job import BatchJob
from batch_llm.jobs.ledger.publishing import lease_check, place_to_publish, record_published
from batch_llm.jobs.ledger.run_folder import RunFolder, open_folder
from batch_llm.jobs.messages import money
from batch_llm.jobs.planning.canary import record_passed
from batch_llm.jobs.planning.items import FAILURE_COLUMNS, staged_columns
from batch_llm.jobs.run_types import Plan, Summary
from batch_llm.jobs.sinks import (
    OutputColumns,
    OutputPlace,
    added_column_names,
    cells_without_formulas,
    open_sink,
    output_columns,
)
from batch_llm.jobs.spending.budgets import read_budget_status
from batch_llm.jobs.spending.prices import PriceList, prices_of
from batch_llm.jobs.storage.duckdb_session import Tables, execute, file_text, name, one_line, open_tables, text
from batch_llm.jobs.storage.json_files import read_object, to_json, write_whole
from batch_llm.jobs.storage.permissions import restrict_folder
from batch_llm.jobs.storage.position_ranges import position_ranges

from .outcomes import write_outcomes


def merge(job: BatchJob, plan: Plan, *, stopped: str = "", notes: Sequence[str] = ()) -> Summary:
    """Write the output, the failures file and summary.json, each of them atomically.

    The output has the columns of the input, the fields of the answer, and the outcome of each row. The cost of a
    reused row is the cost of its answer in the earlier run; the totals only contain what this run paid for.

    Args:
        job: The job.
        plan: The plan of the run.
        stopped: Why the run stopped early; empty if it completed.
        notes: Further sentences for the reader of the totals.

    Returns:
        The totals of the run.

    Raises:
        JobError: The output cannot be written, the ledger cannot be read, or another run has taken over the ledger.

    Example:
        >>> planned = plan(job, run_id)
        >>> for shard in planned.shards:
        ...     asyncio.run(run_shard(job, planned.folder, shard))
        >>> summary = merge(job, planned)
    """
    folder, output = open_folder(job, plan.folder), OutputPlace.parse(job.output, job.partition_by)
    check_lease = lease_check(folder.runs, plan.lease)
    check_lease()
    try:
        with open_tables() as tables:
            _write_outcomes(tables, folder)
            prices = prices_of(job)
            summary = replace(_sum_up(tables, plan, job.output, prices), stopped=stopped)
            summary = replace(summary, warnings=[*plan.warnings, *folder.warnings()])
            summary = replace(summary, notes=[*summary.notes, *notes])
            complete = _is_complete(job, summary)
            place = place_to_publish(tables, job, output, folder.runs, complete=complete)
            if place != output:  # first, so that a later run recognizes what this one wrote before it was killed
                record_published(output, folder.runs, place, complete=complete)
            written, failures = _write_files(tables, job, folder, place, check_lease)
            kept = job.output if place != output else ""
            summary = replace(summary, output=written, failures=failures, kept=kept)
            if summary.cost_usd is not None:
                summary = replace(summary, priced_by=prices.source)
        if place == output:
            with suppress(OSError):  # without this note, later runs treat the output as complete and keep it
                record_published(output, folder.runs, place, complete=complete)
        summary = replace(summary, budgets=[limit.as_json() for limit in read_budget_status(job, folder)])
    except duckdb.Error as error:
        raise JobError(f"output {job.output} cannot be written: {one_line(error)}") from error
    check_lease()
    write_whole(folder.summary, to_json(asdict(summary)))
    restrict_folder(folder.path)
    folder.copy_to_ledger(folder.outcomes)
    folder.copy_to_ledger(folder.summary)
    _learn(job, folder, plan, summary)
    folder.clear()
    return summary


def _write_outcomes(tables: Tables, folder: RunFolder) -> None:
    try:
        write_outcomes(tables, folder)
    except (OSError, duckdb.Error) as error:
        reason = one_line(error) if isinstance(error, duckdb.Error) else error.strerror or error
        raise JobError(f"ledger {folder.store.address} cannot be read: {reason}") from error


def _is_complete(job: BatchJob, summary: Summary) -> bool:
    too_many_failed = summary.failed > job.failure_threshold * summary.total_items
    return not (summary.stopped or summary.not_attempted or too_many_failed)


def _learn(job: BatchJob, folder: RunFolder, plan: Plan, summary: Summary) -> None:
    """Record that the canary is not needed in the next run, if this run shows that the job works."""
    failed = summary.failed - plan.broken
    tried = summary.succeeded - summary.reused - plan.answered + failed
    if plan.canary.passed(tried, failed, job.failure_threshold):
        with suppress(OSError):  # without it, the next run has a canary, which takes some seconds
            record_passed(folder.runs, plan.canary)


def _write_files(
    tables: Tables, job: BatchJob, folder: RunFolder, output: OutputPlace, before: Callable[[], None]
) -> tuple[str, str | None]:
    columns = staged_columns(tables, folder.rows)
    added = output_columns(columns, job.output_schema, typed=output.is_typed)
    parts = [
        f"{part.among('outcomes', 'position')} AS outcomes LEFT JOIN "
        f"{part.among(file_text(folder.rows), '_position')} AS source ON source._position = outcomes.position"
        for part in position_ranges(tables, folder.rows)
    ]
    own = [f"source.{name(column)}" for column in columns]
    selected = ", ".join([*own, *_answers(job, added), *_selected(added.bookkeeping)])
    queries = [f"SELECT {selected} FROM {joined} ORDER BY outcomes.position" for joined in parts]
    escape = job.csv_formulas == "escape"
    queries = _cells(tables, output, queries, escape=escape)
    written = open_sink(output, escape=escape).write(tables, queries, before)
    failures = open_sink(output.failures)
    failed = tables.execute("SELECT 1 FROM outcomes WHERE outcomes.status = 'failed' LIMIT 1").fetchone()
    if failed is None:
        before()
        failures.remove()
        return written, None
    inputs = [column for column in columns if column != "item_id"]
    why = _selected(added_column_names(inputs, FAILURE_COLUMNS))
    selected = ", ".join([*(f"source.{name(column)}" for column in inputs), *why])
    queries = [
        f"SELECT {selected} FROM {joined} WHERE outcomes.status = 'failed' ORDER BY outcomes.position"
        for joined in parts
    ]
    return written, failures.write(tables, _cells(tables, output.failures, queries, escape=escape), before)


def _cells(tables: Tables, output: OutputPlace, queries: Sequence[str], *, escape: bool) -> list[str]:
    return [cells_without_formulas(tables, output, query) if escape else query for query in queries]


def _answers(job: BatchJob, added: OutputColumns) -> list[str]:
    """Return SQL for the fields of the answer, with the types of the schema."""
    if job.output_schema is None:
        return [f"outcomes.output->>'$' AS {name(column)}" for column, _ in added.answer.values()]
    found: list[str] = []
    for key, (column, kind) in added.answer.items():
        pointer = text("/" + key.replace("~", "~0").replace("/", "~1"))
        plain = f"outcomes.output->>{pointer}"
        match kind:
            case "VARCHAR":
                value = plain
            case "JSON":  # a JSON null would become the text "null"
                value = f"CASE WHEN {plain} IS NOT NULL THEN outcomes.output->{pointer} END"
            case _:
                value = f"TRY_CAST({plain} AS {kind})"
        found.append(f"{value} AS {name(column)}")
    return found


def _selected(named: Mapping[str, str]) -> list[str]:
    """Return SQL for added columns, with their names in the output."""
    return [f"outcomes.{'id' if column == 'item_id' else column} AS {name(called)}" for column, called in named.items()]


_TOTALS = """
    SELECT count(*) AS total_items,
        count(*) FILTER (status = 'succeeded') AS succeeded,
        count(*) FILTER (status = 'failed') AS failed,
        count(*) FILTER (status = 'not_attempted') AS not_attempted,
        count(*) FILTER (status = 'left_out') AS left_out,
        count(*) FILTER (reused) AS reused,
        count(*) FILTER (finish_reason = 'length') AS truncated,
        CASE WHEN bool_or(cost_usd IS NULL AND reused) THEN NULL
            ELSE coalesce(sum(cost_usd) FILTER (reused), 0) END AS saved_usd,
        approx_quantile(seconds, 0.5) FILTER (called) AS p50_seconds,
        approx_quantile(seconds, 0.95) FILTER (called) AS p95_seconds,
        round(approx_quantile(call_seconds, 0.5) FILTER (called), 3) AS call_p50_seconds,
        round(approx_quantile(call_seconds, 0.95) FILTER (called), 3) AS call_p95_seconds,
        round(approx_quantile(call_seconds, 0.99) FILTER (called), 3) AS call_p99_seconds,
        round(approx_quantile(seconds - call_seconds, 0.5) FILTER (called), 3) AS wait_p50_seconds,
        round(approx_quantile(seconds - call_seconds, 0.95) FILTER (called), 3) AS wait_p95_seconds,
        round(nullif(count(*) FILTER (called), 0) / greatest(0.001, max(ended) FILTER (called) - min(ended - seconds)
            FILTER (called)), 3) AS items_per_second
    FROM (SELECT *, NOT reused AND attempts > 0 AS called, epoch(finished_at) AS ended FROM outcomes)"""
# Over all records of the run, including items whose text has changed since, or that another run has answered.
_SPENT = """
    SELECT coalesce(sum(input_tokens), 0)::BIGINT AS total_input_tokens,
        coalesce(sum(output_tokens), 0)::BIGINT AS total_output_tokens,
        coalesce(sum(cached_input_tokens), 0)::BIGINT AS total_cached_input_tokens,
        coalesce(sum(estimated_tokens), 0)::BIGINT AS total_estimated_tokens,
        coalesce(sum(attempts), 0)::BIGINT AS total_attempts,
        CASE WHEN bool_or(cost_usd IS NULL AND attempts > 0) THEN NULL ELSE coalesce(sum(cost_usd), 0) END AS cost_usd
    FROM tries"""
_ESTIMATED = """
    SELECT count(DISTINCT fingerprint), sum(estimated_tokens)::BIGINT FROM records WHERE estimated_tokens > 0
    HAVING count(*) > 0"""
_TIERS = """
    SELECT service_tier, count(DISTINCT fingerprint) FROM records
    WHERE service_tier <> '' AND coalesce(unpriced, '') = ''
    GROUP BY ALL ORDER BY 2 DESC, 1"""
_LANES = """
    SELECT if(coalesce(service_tier, '') = '', 'online', service_tier) AS lane,
        count(DISTINCT fingerprint) AS items,
        sum(input_tokens)::BIGINT AS input_tokens,
        sum(output_tokens)::BIGINT AS output_tokens,
        sum(cached_input_tokens)::BIGINT AS cached_input_tokens,
        CASE WHEN bool_or(cost_usd IS NULL) THEN NULL ELSE sum(cost_usd) END AS cost_usd
    FROM records WHERE attempts > 0 GROUP BY ALL ORDER BY 2 DESC, 1"""
_UNPRICED = """
    SELECT unpriced, count(DISTINCT fingerprint) FROM records WHERE unpriced <> '' GROUP BY ALL ORDER BY 2 DESC, 1"""
_CATEGORIES = "SELECT error_category, count(*) FROM outcomes WHERE status = 'failed' GROUP BY ALL ORDER BY 2 DESC, 1"


def _sum_up(tables: Tables, plan: Plan, output: str, prices: PriceList) -> Summary:
    planned_at = float(read_object(Path(plan.folder) / "plan.json").get("planned_at", time.time()))
    lanes = _lanes(tables, prices)
    return Summary(
        **_one_row(tables, _TOTALS),
        **_one_row(tables, _SPENT),
        new=plan.new,
        changed=plan.changed,
        retried=plan.retried,
        refreshed=plan.refreshed,
        seconds=round(time.time() - planned_at, 3),
        output=output,
        failures=None,
        categories={str(category): int(count) for category, count in tables.execute(_CATEGORIES).fetchall()},
        notes=list(_notes(tables, {lane["lane"]: lane["saved_usd"] for lane in lanes})),
        lanes=lanes,
    )


def _lanes(tables: Tables, prices: PriceList) -> list[dict[str, Any]]:
    """Return the totals of each service tier that answered; nothing if only the standard tier did."""
    found = tables.execute(_LANES)
    names = [str(column[0]) for column in found.description or ()]
    rows: list[dict[str, Any]] = [dict(zip(names, row, strict=True)) for row in found.fetchall()]
    if all(row["lane"] == "online" for row in rows):
        return []
    for row in rows:
        usage = {name: row.pop(name) for name in ("input_tokens", "output_tokens", "cached_input_tokens")}
        full = prices.cost(usage)
        row["saved_usd"] = None if full is None or row["cost_usd"] is None else max(0.0, full - row["cost_usd"])
    return rows


def _notes(tables: Tables, saved_usd: Mapping[str, float | None]) -> Iterator[str]:
    """Yield notes on the totals: which parts are estimated, or priced without a published price."""
    for items, tokens in tables.execute(_ESTIMATED).fetchall():
        yield (
            f"The provider reported no usable token usage for {items:,} items: {tokens:,} tokens are estimated from "
            "the length of the texts; the cost and the budgets count them."
        )
    for tier, items in tables.execute(_TIERS).fetchall():
        saved = saved_usd.get(tier)
        less = f": {money(saved)} less than at the standard tier" if saved else ""
        yield f"The service tier {tier} answered {items:,} items, which are priced at it{less}."
    for what, items in tables.execute(_UNPRICED).fetchall():
        yield f"There is no published price for {what}: {items:,} items are priced without it, by the standard prices."


def _one_row(tables: Tables, query: str) -> dict[str, Any]:
    found = execute(tables, query)
    names = [str(column[0]) for column in found.description or ()]
    return dict(zip(names, found.fetchone() or (), strict=True))
