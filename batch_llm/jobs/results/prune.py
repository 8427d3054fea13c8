"""Removal of old runs; answers that remaining runs use or may need are kept."""

from __future__ import annotations

import logging
import shutil
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import duckdb

from batch_llm.errors import JobError
from batch_llm.jobs.ledger.checksums import line_with_checksum
from batch_llm.jobs.ledger.lease import hold_lease, newest_lease
from batch_llm.jobs.ledger.record_views import FINGERPRINT, KEY_FINGERPRINT, view_records
from batch_llm.jobs.ledger.records import record_files
from batch_llm.jobs.ledger.run_folder import RunFolder, folder_in, working_folder
from batch_llm.jobs.storage.duckdb_session import Tables, execute, file_text, one_line, open_tables, text
from batch_llm.jobs.storage.scratch import temporary_folder
from batch_llm.jobs.storage.store import Store

from .runs import RunRecord, find_runs

_log = logging.getLogger(__name__)

KEPT = "kept"
"""Folder, in the place of a run id, for the answers of removed runs."""

DAY_SECONDS = 86_400.0


@dataclass(frozen=True, slots=True)
class Pruned:
    """Result of a pruning, or preview of it.

    Attributes:
        name: Name of the job.
        runs: Ids of the removed runs, newest first.
        files: Number of removed files.
        bytes: Size of the removed files.
        kept_answers: Answers of removed runs that are kept, because remaining runs use or may need them.
        dropped_answers: Answers that are removed with their runs.
    """

    name: str
    runs: tuple[str, ...]
    files: int
    bytes: int
    kept_answers: int
    dropped_answers: int


def prune(
    ledger: Store, name: str, *, keep_days: float, waits_for: Callable[[str], None], dry_run: bool = False
) -> Pruned:
    """Remove the runs of a job's name that are older than `keep_days`, except the newest finished run.

    Answers of removed runs that a remaining run has used, or may still need, are kept. Temporary files of killed runs
    are removed as well.

    Args:
        ledger: The ledger folder, which contains all names.
        name: Name of the job.
        keep_days: Age in days up to which runs are kept.
        waits_for: Called with the description of a running run that is waited for.
        dry_run: Whether to only return what would be removed.

    Raises:
        JobError: The name does not exist, its folder cannot be written, or another run took over the lease.

    Example:
        >>> prune(Store("ledger"), "tickets", keep_days=30, waits_for=print, dry_run=True).files
    """
    _runs_of(ledger, name)  # checked first, so that no lease is created for a name that does not exist
    store = ledger.folder(name)
    try:
        with hold_lease(store, "prune", waits_for=waits_for, lost=_log.warning) as lease, open_tables() as tables:
            runs = _runs_of(ledger, name)
            old = _old(runs, time.time() - keep_days * DAY_SECONDS)
            kept_answers, dropped_answers = _weigh(tables, store, old, [run for run in runs if run not in old])
            sizes = [size for run in old for size in _files_of(store, run).values()]
            if not dry_run:
                _remove(tables, store, lease, name, old, kept_answers)
    except (OSError, duckdb.Error) as error:
        reason = one_line(error) if isinstance(error, duckdb.Error) else error.strerror or error
        raise JobError(f"ledger {store.address} cannot be pruned: {reason}") from error
    return Pruned(name, tuple(run.id for run in old), len(sizes), sum(sizes), kept_answers, dropped_answers)


def _runs_of(ledger: Store, name: str) -> list[RunRecord]:
    runs = [run for run in find_runs(ledger, name) if run.name == name]
    if not runs:
        raise JobError(f"{name!r} is the beginning of a run id, not a job name: prune takes job names")
    return runs


def _old(runs: Sequence[RunRecord], before: float) -> list[RunRecord]:
    newest_ended = next((run for run in runs if run.store.read("summary.json") is not None), None)
    return [run for run in runs if _began(run) < before and run is not newest_ended]


def _began(run: RunRecord) -> float:
    """Return the start time of a run; if its plan is damaged, the modification time of the plan."""
    return run.began or run.store.modified("plan.json")


def _weigh(tables: Tables, store: Store, old: Sequence[RunRecord], staying: Sequence[RunRecord]) -> tuple[int, int]:
    """Find the answers of old runs that remaining runs need; return the numbers of needed and unneeded answers."""
    files = [file for run in old for file in record_files(store, f"{run.id}/ledger/*.jsonl")]
    view_records(tables, store, [*files, *(_kept_files(store) if old else [])])
    execute(
        tables,
        f"""
        CREATE OR REPLACE TEMP TABLE answers AS
        SELECT fingerprint, any_value({KEY_FINGERPRINT}) AS key_fingerprint, max(stamp) AS stamp,
            arg_max(number, stamp) AS number
        FROM records WHERE status = 'succeeded' GROUP BY fingerprint;
        CREATE OR REPLACE TEMP TABLE used (fingerprint UUID)""",
    )
    for run in staying:
        execute(tables, f"CREATE OR REPLACE TEMP TABLE needed AS {_needs(tables, run)}")
        # If ids are made from the content of rows, an answer may belong to another id: it is found by its key.
        execute(
            tables,
            """
            INSERT INTO used SELECT fingerprint FROM needed SEMI JOIN answers USING (fingerprint);
            INSERT INTO used SELECT fingerprint FROM answers SEMI JOIN (
                FROM needed ANTI JOIN answers USING (fingerprint)
            ) USING (key_fingerprint)""",
        )
    execute(tables, "CREATE OR REPLACE TEMP TABLE kept_answers AS FROM answers SEMI JOIN used USING (fingerprint)")
    counts = execute(tables, "SELECT (SELECT count(*) FROM kept_answers), (SELECT count(*) FROM answers)").fetchone()
    kept_answers, all_of_them = counts or (0, 0)
    return int(kept_answers), int(all_of_them) - int(kept_answers)


def _needs(tables: Tables, run: RunRecord) -> str:
    """Return SQL for the fingerprints of the items for which a remaining run needs an answer of another run.

    For a finished run, these are its reused items and its items without an answer, to which there may be an older
    answer (with `refresh`) that the next run reuses. For a crashed run, these are all its items.
    """
    query = f"SELECT {FINGERPRINT} AS fingerprint, {KEY_FINGERPRINT} AS key_fingerprint FROM"
    if ended := run.store.for_tables(tables, run.store.names("outcomes.parquet")):
        query = f"{query} {text(ended[0])} WHERE reused OR status <> 'succeeded'"
    else:
        query = f"{query} {file_text(folder_in(run.store.parent, run.name, run.id).items)}"
    try:
        tables.execute(f"DESCRIBE {query}")
    except duckdb.Error:
        return "SELECT fingerprint, key_fingerprint FROM answers"  # damaged, or on another machine: any may be needed
    return query


def _keep(tables: Tables, store: Store, kept_answers: int) -> None:
    """Write the answers to keep to one new file, before anything is removed.

    Each answer gets a time that is a microsecond later, so that a record and its copy always differ, even if the
    process is killed while both exist.
    """
    if kept_answers:
        with temporary_folder() as folder:
            path = folder / "kept.jsonl"
            execute(
                tables,
                f"""
                COPY (
                    SELECT * EXCLUDE (fingerprint, id_fingerprint, stamp, "check") REPLACE (strftime(
                        (finished_at + INTERVAL 1 MICROSECOND) AT TIME ZONE 'UTC', '%Y-%m-%dT%H:%M:%S.%f+00:00'
                    ) AS finished_at)
                    FROM records SEMI JOIN kept_answers USING (fingerprint, stamp) WHERE status = 'succeeded'
                ) TO {text(path)} (FORMAT json)""",
            )
            (number,) = tables.execute("SELECT coalesce(max(number), 0) FROM kept_answers").fetchone() or (0,)
            with path.open("rb") as lines, (whole := folder / "with-checksums.jsonl").open("wb") as kept:
                kept.writelines(line_with_checksum(line.rstrip(b"\n")) for line in lines)
            store.put(whole, f"{KEPT}/ledger/n{int(number):06d}-{KEPT}-{uuid.uuid4().hex}.jsonl")


def _kept_files(store: Store) -> list[str]:
    return store.names(f"{KEPT}/ledger/*.jsonl")


def _remove(tables: Tables, store: Store, lease: int, name: str, old: Sequence[RunRecord], kept_answers: int) -> None:
    before = _kept_files(store) if old else []
    if old:
        _keep(tables, store, kept_answers)
    _check_lease(store, lease)
    store.remove(before)
    for run in old:
        _check_lease(store, lease)
        _remove_run(store, run)
    _check_lease(store, lease)
    working = working_folder(store, name)
    # All folders, because a run that was killed before its plan was written is not in the list of runs.
    for path in filter(Path.is_dir, working.iterdir() if working.exists() else ()):
        RunFolder.at(path, store).clear()


def _check_lease(store: Store, lease: int) -> None:
    """Check that no other run has taken over the lease: it may use answers that are about to be removed."""
    if newest_lease(store) > lease:
        raise JobError(f"another run took over {store.address} during the pruning: prune again to remove the rest")


def _files_of(store: Store, run: RunRecord) -> dict[str, int]:
    return {**store.sizes(f"{run.id}/*/*"), **store.sizes(f"{run.id}/*.*")}


def _remove_run(store: Store, run: RunRecord) -> None:
    # The plan is removed last, so that a partly removed run is still listed, and removed the next time.
    store.remove(sorted(_files_of(store, run), key=lambda file: file.endswith("plan.json")))
    with suppress(FileNotFoundError):
        shutil.rmtree(folder_in(store, run.name, run.id).path)
