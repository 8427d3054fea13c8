"""Runs in a ledger: list, find and inspect runs, and select their results. No server is needed."""

from __future__ import annotations

import json
import logging
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias, cast

import duckdb

from batch_llm.errors import JobError
from batch_llm.jobs.ledger.lease import active_run
from batch_llm.jobs.ledger.record_views import view_records
from batch_llm.jobs.ledger.records import record_files
from batch_llm.jobs.run_types import Summary
from batch_llm.jobs.storage.duckdb_session import Tables, column_types, execute, one_line, open_tables, text
from batch_llm.jobs.storage.select_only import check_condition, condition_query
from batch_llm.jobs.storage.store import Store

from .outcomes import FAILURES_FIRST
from .totals_so_far import totals_so_far

_log = logging.getLogger(__name__)

State: TypeAlias = Literal["running", "completed", "failed", "ended", "stopped", "cancelled", "crashed"]

CANCELLED = ("stopped by Ctrl-C", "stopped by cancellation")
"""Beginnings of `Summary.stopped` when a user cancelled the run."""

PLANS = "*/*/plan.json"
_MOST_NAMED = 5
RESULT_COLUMNS = (
    "id",
    "status",
    "output",
    "error_category",
    "error",
    "attempts",
    "input_tokens",
    "output_tokens",
    "cost_usd",
    "seconds",
    "finish_reason",
)


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A run in a ledger.

    Attributes:
        name: Name of the job.
        id: Id of the run.
        store: The run's folder in the ledger.
        plan: Content of plan.json.
        began: Time of the plan, or the latest time of the plans of earlier leases, if the clock was behind; 0 if it is
            not known.
    """

    name: str
    id: str
    store: Store
    plan: dict[str, Any]
    began: float = 0.0

    @property
    def planned_at(self) -> float:
        """Time of the plan, in seconds since the epoch; 0 if it is not known."""
        return float(self.plan.get("planned_at", 0.0))

    @property
    def lease(self) -> int:
        """Number of the run's lease of the ledger of its name; 0 for none."""
        return int(self.plan.get("lease") or 0)


@dataclass(frozen=True, slots=True)
class RunState:
    """State of a run.

    Attributes:
        state: "running" while the run holds the lease; "crashed" if its process died; "cancelled" by a user; "stopped"
            early for another reason; "failed" if items were not attempted, all failed, or more failed than the run's
            failure threshold allows; "completed" otherwise; "ended" with failures and a plan without the threshold.
        totals: Totals of the run; before its end, the totals so far, with missing items as `not_attempted`.
        examples: One error message for each category of failures.
    """

    state: State
    totals: Summary
    examples: dict[str, str]


def find_runs(ledger: Store, wanted: str = "") -> list[RunRecord]:
    """Return the runs in a ledger, newest first.

    Args:
        ledger: The ledger folder, which contains all names.
        wanted: Name of a job, or the beginning of a run id; empty for all runs.

    Raises:
        JobError: There is no such run; the message lists the existing names.

    Example:
        >>> [run.id for run in find_runs(Store("ledger"), "tickets")]
    """
    with _reading(ledger):
        places = [name.split("/")[:2] for name in ledger.names(PLANS)]
        known = [(name, run) for name, run in places if not wanted or name == wanted or run.startswith(wanted)]
        runs = [_read(ledger, name, run) for name, run in known]
    if not runs:
        raise JobError(_nothing(ledger, wanted, sorted({name for name, _ in places})))
    return _newest_first(runs)


def find_run(ledger: Store, wanted: str = "") -> RunRecord:
    """Return one run of a ledger.

    Args:
        ledger: The ledger folder, which contains all names.
        wanted: Name of a job, for its newest run; the beginning of a run id; or empty for the newest run.

    Raises:
        JobError: There is no such run, or several run ids begin with `wanted`.
    """
    runs = find_runs(ledger, wanted)
    if len(runs) > 1 and wanted and not any(run.name == wanted for run in runs):
        ids = ", ".join(run.id for run in runs[:_MOST_NAMED])
        raise JobError(f"{len(runs)} runs begin with {wanted!r}: {ids}; use more characters of the id")
    return runs[0]


def read_run_state(run: RunRecord) -> RunState:
    """Return the state and the totals of a run, from its summary, or else from its records.

    Raises:
        JobError: The ledger cannot be read.
    """
    with _reading(run.store), open_tables() as tables:
        done = _object(run.store.read("summary.json"))
        if done:
            totals = Summary(**{name: value for name, value in done.items() if name in Summary.__dataclass_fields__})
        else:
            totals = totals_so_far(tables, run.store, run.plan, is_running=_is_running(run))
        view_results(tables, run)
        found = tables.execute("""
            SELECT error_category, left(any_value(error), 2000) FROM results
            WHERE status = 'failed' AND error IS NOT NULL GROUP BY ALL""").fetchall()
        state: State = "running" if _is_running(run) else "crashed"
    if done:
        state = final_state(totals, run.plan.get("failure_threshold"))
    return RunState(state, totals, {str(category): str(error) for category, error in found})


def final_state(totals: Summary, threshold: float | None) -> State:
    """Return the state of a run that has totals.

    Args:
        totals: Totals of the run.
        threshold: The job's failure threshold; None if it is not known.
    """
    if totals.stopped:
        return "cancelled" if totals.stopped.startswith(CANCELLED) else "stopped"
    if totals.not_attempted or (totals.failed and not totals.succeeded):
        return "failed"
    if totals.failed and threshold is None:
        return "ended"
    return "failed" if totals.failed > (threshold or 0) * totals.total_items else "completed"


def view_results(tables: Tables, run: RunRecord) -> None:
    """Create the view `results` of a run's items in the session; before the merge, only called items are in it."""
    columns = [*RESULT_COLUMNS, "reused"]
    if _object(run.store.read("summary.json")):
        (place,) = run.store.for_tables(tables, ["outcomes.parquet"])
        try:
            lacking = set(columns) - column_types(tables, f"FROM {text(place)}").keys()  # in runs of earlier versions
            selected = (f"NULL::VARCHAR AS {column}" if column in lacking else column for column in columns)
            tables.execute(f"CREATE TEMP VIEW results AS SELECT {', '.join(selected)} FROM {text(place)}")
            return
        except duckdb.Error as error:
            _log.warning(
                "The outcomes of run %s cannot be read; reused answers are missing: %s", run.id, one_line(error)
            )
    view_records(tables, run.store, record_files(run.store, "ledger/*.jsonl"))
    tables.execute(f"""
        CREATE TEMP VIEW results AS
        SELECT {", ".join(columns)} FROM (SELECT *, category AS error_category, false AS reused FROM records) JOIN (
            SELECT fingerprint,
                coalesce(max(stamp) FILTER (status = 'succeeded'), max(stamp)) AS stamp
            FROM records GROUP BY fingerprint
        ) USING (fingerprint, stamp) QUALIFY row_number() OVER (PARTITION BY fingerprint) = 1""")


def choose_results(tables: Tables, run: RunRecord, where: str) -> int:
    """Create the view `chosen` of the items of a run for which an SQL condition is true.

    Args:
        tables: The session.
        run: The run.
        where: An SQL condition on the columns in `RESULT_COLUMNS`; empty for all items.

    Returns:
        The number of items.

    Raises:
        JobError: The condition is not valid.
    """
    with _reading(run.store):
        view_results(tables, run)
    condition = where.strip() or "true"
    try:
        check_condition(condition, "results")
    except ValueError as error:
        raise JobError(f"where {where!r} {error}; the columns are {', '.join(RESULT_COLUMNS)}") from error
    try:
        tables.execute(f"CREATE TEMP VIEW chosen AS {condition_query(condition, 'results')}")
        (count,) = tables.execute("SELECT count(*) FROM chosen").fetchone() or (0,)
    except duckdb.Error as error:
        raise JobError(
            f"where {where!r} cannot be read: {one_line(error)}; the columns are {', '.join(RESULT_COLUMNS)}"
        ) from error
    return int(count)


def read_rows(tables: Tables, limit: int) -> list[dict[str, Any]]:
    """Return the first rows of the view `chosen`, failures first, as plain data by column."""
    columns = [*RESULT_COLUMNS, "reused"]
    query = f"SELECT {', '.join(columns)} FROM chosen ORDER BY {FAILURES_FIRST}, id LIMIT {limit}"
    rows = [dict(zip(columns, row, strict=True)) for row in execute(tables, query).fetchall()]
    return [row | {"output": None if row["output"] is None else json.loads(row["output"])} for row in rows]


def _newest_first(runs: Sequence[RunRecord]) -> list[RunRecord]:
    """Return the runs, newest first, with `began`; clocks of machines may differ, and the numbers of leases do not."""
    latest: dict[str, float] = {}
    found: list[RunRecord] = []
    for run in sorted(runs, key=lambda run: (run.lease, run.planned_at)):
        began = run.planned_at
        if run.lease:
            began = latest[run.name] = max(began, latest.get(run.name, 0.0))
        found.append(replace(run, began=began))
    return sorted(found, key=lambda run: (run.began, run.lease), reverse=True)


def _is_running(run: RunRecord) -> bool:
    return active_run(run.store.parent) == run.id


def _read(ledger: Store, name: str, run: str) -> RunRecord:
    kept = ledger.folder(name).folder(run)
    return RunRecord(name, run, kept, _object(kept.read("plan.json")))


def _object(data: bytes | None) -> dict[str, Any]:
    try:
        found: object = json.loads(data or b"{}")
    except ValueError:
        return {}
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


@contextmanager
def _reading(place: Store) -> Generator[None]:
    try:
        yield
    except (OSError, duckdb.Error) as error:
        reason = one_line(error) if isinstance(error, duckdb.Error) else error.strerror or error
        raise JobError(f"ledger {place.address} cannot be read: {reason}") from error


def _nothing(ledger: Store, wanted: str, names: Sequence[str]) -> str:
    if not names:
        return f"no runs in the ledger {ledger.address}: use another ledger with --ledger"
    return f"no run or job named {wanted!r} in {ledger.address}: it has runs of {', '.join(names)} (batch-llm status)"
