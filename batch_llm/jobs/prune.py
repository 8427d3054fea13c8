"""Prune: old runs go, and no answer that is still in use goes with them."""

from __future__ import annotations

import logging
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import duckdb

from batch_llm.errors import JobError

from .folder import run_path
from .lease import hold
from .ledger import record_files, view_records
from .runs import Run, find_runs
from .store import Store
from .tables import Tables, one_line, open_tables, text

_log = logging.getLogger(__name__)

KEPT = "kept"
"""In the place of a run: the answers of runs that are gone."""

DAY_SECONDS = 86_400.0


@dataclass(frozen=True, slots=True)
class Pruned:
    """What went, or would go.

    Attributes:
        name: The job's name.
        runs: Ids of the runs, the newest first.
        carried: Answers that runs which stay have used, and that stay for that.
        let_go: Answers that went with their runs.
    """

    name: str
    runs: tuple[str, ...]
    carried: int
    let_go: int


def prune(
    ledger: Store, name: str, *, keep_days: float, waits_for: Callable[[str], None], dry_run: bool = False
) -> Pruned:
    """Remove the runs of a name that began longer ago than `keep_days`, but for the newest one that ended.

    An answer of theirs that a run which stays has used is carried forward. Copies that killed runs worked with go too.

    Args:
        ledger: The folder of all names.
        name: The job's name.
        keep_days: How long runs stay.
        waits_for: Told for which run it waits: none may be at work.
        dry_run: Remove nothing.

    Raises:
        JobError: There is no such name, or its folder cannot be written.
    """
    find_runs(ledger, name)  # before there is a lease of a name that does not exist
    store = ledger.folder(name)
    try:
        with hold(store, "prune", waits_for=waits_for, lost=_log.warning), open_tables() as tables:
            runs = [run for run in find_runs(ledger, name) if run.name == name]
            old = _old(runs, time.time() - keep_days * DAY_SECONDS)
            carried, let_go = _weigh(tables, store, old, [run for run in runs if run not in old])
            if not dry_run:
                _remove(tables, store, runs, old, carried)
    except (OSError, duckdb.Error) as error:
        reason = one_line(error) if isinstance(error, duckdb.Error) else error.strerror or error
        raise JobError(f"ledger {store.address} cannot be pruned: {reason}") from error
    return Pruned(name, tuple(run.id for run in old), carried, let_go)


def _old(runs: Sequence[Run], before: float) -> list[Run]:
    newest_ended = next((run for run in runs if run.kept.read("summary.json") is not None), None)
    return [run for run in runs if run.planned_at < before and run is not newest_ended]


def _weigh(tables: Tables, store: Store, old: Sequence[Run], staying: Sequence[Run]) -> tuple[int, int]:
    """Find the old answers that runs which stay have used; return how many they are, and how many are not used."""
    files = [file for run in old for file in record_files(store, f"{run.id}/ledger/*.jsonl")]
    view_records(tables, store, [*files, *(_kept_files(store) if old else [])])
    tables.execute("""
        CREATE TEMP TABLE answers AS
        SELECT id, key, max(finished_at) AS finished_at FROM records WHERE status = 'succeeded' GROUP BY id, key;
        CREATE TEMP TABLE used (id VARCHAR, key VARCHAR)""")
    for run in staying:
        if items := _items_of(tables, run):
            tables.execute(f"INSERT INTO used SELECT id, key FROM {items} SEMI JOIN answers USING (id, key)")
    tables.execute("CREATE TEMP TABLE carried AS SELECT * FROM answers SEMI JOIN used USING (id, key)")
    counts = tables.execute("SELECT (SELECT count(*) FROM carried), (SELECT count(*) FROM answers)").fetchone()
    carried, all_of_them = counts or (0, 0)
    return int(carried), int(all_of_them) - int(carried)


def _items_of(tables: Tables, run: Run) -> str:
    """SQL for the items that a run reused; of one that has not ended, for all that it knows."""
    if ended := run.kept.for_tables(tables, run.kept.names("outcomes.parquet")):
        return f"(FROM {text(ended[0])} WHERE reused)"
    working = run_path(run.kept, run.name, run.id).items
    return text(working) if working.exists() else ""


def _carry(tables: Tables, store: Store, carried: int) -> None:
    """Write the answers that stay into one new file before anything goes, each a microsecond later than it was.

    So a record and its copy are never the same one, wherever a kill leaves both.
    """
    before = _kept_files(store)
    if carried:
        with tempfile.TemporaryDirectory(prefix="batch-llm-") as folder:
            path = Path(folder) / "kept.jsonl"
            tables.execute(f"""
                COPY (
                    SELECT * REPLACE (strftime(
                        (finished_at + INTERVAL 1 MICROSECOND) AT TIME ZONE 'UTC', '%Y-%m-%dT%H:%M:%S.%f+00:00'
                    ) AS finished_at)
                    FROM records SEMI JOIN carried USING (id, key, finished_at) WHERE status = 'succeeded'
                ) TO {text(path)} (FORMAT json)""")
            store.put(path, f"{KEPT}/ledger/{KEPT}-{uuid.uuid4().hex}.jsonl")
        store.remove(before)


def _kept_files(store: Store) -> list[str]:
    return store.names(f"{KEPT}/ledger/*.jsonl")


def _remove(tables: Tables, store: Store, runs: Sequence[Run], old: Sequence[Run], carried: int) -> None:
    if old:
        _carry(tables, store, carried)
    for run in old:
        _remove_run(store, run)
    for run in runs:
        run_path(run.kept, run.name, run.id).clear()


def _remove_run(store: Store, run: Run) -> None:
    # The plan goes last: a run that is half gone is still one, and goes the next time.
    files = [*store.names(f"{run.id}/ledger/*"), *store.names(f"{run.id}/*.*")]
    store.remove(file for file in sorted(files, key=lambda file: file.endswith("plan.json")))
    with suppress(FileNotFoundError):
        shutil.rmtree(run_path(run.kept, run.name, run.id).path)
