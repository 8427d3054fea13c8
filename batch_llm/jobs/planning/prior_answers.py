"""Lookup of a run's items in the ledger: reusable answers, earlier failures, and the duration of an item."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from batch_llm.jobs.accepted_answers import accepted_condition
from batch_llm.jobs.job import BatchJob
from batch_llm.jobs.ledger.record_lookup import collected_records
from batch_llm.jobs.ledger.record_views import FINGERPRINT, ID_FINGERPRINT, KEY_FINGERPRINT, drop_repeats, view_records
from batch_llm.jobs.ledger.records import record_files
from batch_llm.jobs.ledger.run_folder import RunFolder
from batch_llm.jobs.storage.duckdb_session import Tables, execute, file_text, text
from batch_llm.jobs.storage.store import Store

from .items import id_column, other_spellings, staged_columns
from .max_tokens_reuse import find_keys_of_lower_max_tokens
from .refreshes import Refresh

_EARLIER = 1000
"""Rank of keys with lower token limits, after all spellings of an id."""

_SAMPLE_FILES, _SAMPLE_RECORDS = 8, 5_000


@dataclass(frozen=True, slots=True)
class _Ledger:
    """Ledger files in which answers are searched.

    Attributes:
        store: Folder of the job.
        own: Files of this run.
        others: Files of the other runs of the job's name.
        usable: SQL condition that selects the records of `others` whose answers may be reused.
    """

    store: Store
    own: Mapping[str, int]
    others: Mapping[str, int]
    usable: str


def find_answers(
    tables: Tables, job: BatchJob, folder: RunFolder, refresh: Refresh | None = None, strategy: str = ""
) -> int:
    """Find the items that this run and other runs answered, and copy the answers of the other runs into this run.

    The search does not read the answers themselves, which may not fit into memory. It creates these tables in the
    session: `wanted`, the items that can be sent; `lookups`, the fingerprints under which each item may have been
    answered; `past`, the records of other runs; `standing`, their reusable answers; `open`, unanswered items.

    Args:
        tables: DuckDB session.
        job: The job.
        folder: Folder of the run, with its items.
        refresh: The refresh of the run; None if the job does not refresh.
        strategy: Name of a strategy that the caller passes.

    Returns:
        Number of damaged records, which are ignored.
    """
    columns = staged_columns(tables, folder.rows)
    named_by = id_column(job, columns)
    ledger = _ledger_of(job, folder, refresh)
    damaged = view_records(tables, ledger.store, ledger.own, view="own_records")
    damaged += view_records(tables, ledger.store, ledger.others, with_run=True)
    spellings = [] if named_by is None else other_spellings(columns[named_by])
    _look_up(tables, folder, ledger, spellings, find_keys_of_lower_max_tokens(tables, job, folder, strategy))
    if named_by is None:
        _look_up_by_key(tables, folder, ledger)
    execute(
        tables,
        """
        CREATE OR REPLACE TEMP TABLE open AS
        SELECT position, tried.position IS NOT NULL AS failed_before,
            coalesce(truncated_before, false) AS truncated_before
        FROM wanted ANTI JOIN answered USING (position) ANTI JOIN standing USING (position)
        LEFT JOIN tried USING (position) LEFT JOIN truncated USING (position)""",
    )
    _copy_answers(tables, folder, ledger)
    chosen = "failed_before" if job.only_failed else "truncated_before" if job.only_truncated else "true"
    called = f"SELECT position FROM open WHERE {chosen} ORDER BY position"
    execute(tables, f"COPY ({called}) TO {text(folder.called)} (FORMAT parquet)")
    return damaged


def _ledger_of(job: BatchJob, folder: RunFolder, refresh: Refresh | None) -> _Ledger:
    store, run = folder.runs, folder.path.name
    own = record_files(store, f"{run}/ledger/*.jsonl")
    others = {name: size for name, size in record_files(store).items() if name not in own}
    if refresh is None:
        return _Ledger(store, own, others, accepted_condition(job))
    refreshed = f"run IN ({', '.join(text(run) for run in ('', *refresh.answered_by))})"
    return _Ledger(store, own, others, f"{refreshed} AND {accepted_condition(job)}")


def _look_up(tables: Tables, folder: RunFolder, ledger: _Ledger, spellings: list[str], has_earlier_keys: bool) -> None:
    """Look up answers by id and key, by other spellings of the id, and by keys with lower token limits."""
    others = "".join(
        f"""
        UNION ALL SELECT position, {rank}, {FINGERPRINT}, {ID_FINGERPRINT}
        FROM (SELECT position, {spelling} AS id, key FROM {file_text(folder.items)} WHERE error IS NULL)
        WHERE id IS NOT NULL"""
        for rank, spelling in enumerate(spellings, start=1)
    )
    if has_earlier_keys:
        others += f"""
        UNION ALL SELECT position, {_EARLIER}, md5(id || chr(0) || earlier.key)::UUID, {ID_FINGERPRINT}
        FROM {text(folder.items)} JOIN earlier_keys AS earlier USING (position)"""
    execute(
        tables,
        f"""
        CREATE OR REPLACE TEMP TABLE wanted AS
        SELECT position, {FINGERPRINT} AS fingerprint, {ID_FINGERPRINT} AS id_fingerprint
        FROM {file_text(folder.items)} WHERE error IS NULL;
        CREATE OR REPLACE TEMP TABLE lookups AS
        SELECT position, 0 AS rank, fingerprint, id_fingerprint FROM wanted {others};
        CREATE OR REPLACE TEMP TABLE answered AS
        SELECT DISTINCT position FROM lookups
        SEMI JOIN (FROM own_records WHERE status = 'succeeded') USING (fingerprint);
        CREATE OR REPLACE TEMP TABLE past AS
        SELECT id_fingerprint, fingerprint, max(stamp) FILTER (status = 'succeeded') AS answered_at,
            max(stamp) FILTER (status = 'succeeded' AND {ledger.usable}) AS usable_at,
            max(stamp) FILTER (
                status = 'succeeded' AND {ledger.usable} AND coalesce(finish_reason, 'length') <> 'length'
            ) AS whole_at,
            arg_max(finish_reason = 'length', stamp) FILTER (status <> 'skipped') AS is_truncated
        FROM records SEMI JOIN lookups USING (id_fingerprint) GROUP BY ALL;
        CREATE OR REPLACE TEMP TABLE found AS
        SELECT position, arg_min(fingerprint, rank) FILTER (stands_at IS NOT NULL) AS fingerprint,
            arg_min(stands_at, rank) FILTER (stands_at IS NOT NULL) AS stamp,
            bool_or(is_truncated) AS truncated_before,
            bool_or(answered_at IS NOT NULL) FILTER (rank < {_EARLIER}) AS had_an_answer
        FROM (
            SELECT *, CASE WHEN rank < {_EARLIER} THEN usable_at ELSE whole_at END AS stands_at
            FROM lookups JOIN past USING (fingerprint)
        ) GROUP BY position;
        CREATE OR REPLACE TEMP TABLE standing AS
        SELECT position, fingerprint, stamp FROM found ANTI JOIN answered USING (position) WHERE stamp IS NOT NULL;
        CREATE OR REPLACE TEMP TABLE truncated AS
        SELECT position, truncated_before FROM found ANTI JOIN standing USING (position);
        CREATE OR REPLACE TEMP TABLE tried AS
        SELECT position, had_an_answer FROM found ANTI JOIN standing USING (position)
        WHERE had_an_answer IS NOT NULL""",
    )


def _look_up_by_key(tables: Tables, folder: RunFolder, ledger: _Ledger) -> None:
    """Look up the remaining items by key only, because ids derived from rows change with columns not in the prompt.

    Records of this run are included, because a row may have changed since the run was interrupted.
    """
    execute(
        tables,
        f"""
        CREATE OR REPLACE TEMP TABLE keys AS
        SELECT position, {KEY_FINGERPRINT} AS key_fingerprint FROM {file_text(folder.items)}
        SEMI JOIN wanted USING (position) ANTI JOIN answered USING (position) ANTI JOIN standing USING (position)""",
    )
    if not execute(tables, "SELECT 1 FROM keys LIMIT 1").fetchone():
        return
    columns = f"fingerprint, status, stamp, {KEY_FINGERPRINT} AS key_fingerprint"
    execute(
        tables,
        f"""
        CREATE OR REPLACE TEMP TABLE past_keys AS
        SELECT key_fingerprint, bool_or(status = 'succeeded') AS had_an_answer,
            arg_max(fingerprint, stamp) FILTER (status = 'succeeded' AND usable) AS fingerprint,
            max(stamp) FILTER (status = 'succeeded' AND usable) AS stamp
        FROM (
            SELECT {columns}, {ledger.usable} AS usable FROM records
            UNION ALL SELECT {columns}, true FROM own_records
        ) SEMI JOIN keys USING (key_fingerprint) GROUP BY key_fingerprint;
        INSERT INTO standing
        SELECT position, fingerprint, stamp FROM keys JOIN past_keys USING (key_fingerprint)
        WHERE stamp IS NOT NULL;
        INSERT INTO tried
        SELECT position, had_an_answer FROM keys JOIN past_keys USING (key_fingerprint)
        ANTI JOIN tried USING (position)""",
    )


def _copy_answers(tables: Tables, folder: RunFolder, ledger: _Ledger) -> None:
    """Copy the reusable answers, each with the id of its row in this run."""
    columns = 'position, records.* EXCLUDE (fingerprint, id_fingerprint, stamp, number, "check")'
    execute(
        tables,
        f"""
        CREATE OR REPLACE TEMP TABLE renamed AS
        SELECT position, id AS item_id FROM {file_text(folder.items)} SEMI JOIN (
            SELECT position FROM standing JOIN wanted USING (position)
            WHERE standing.fingerprint <> wanted.fingerprint
        ) USING (position)""",
    )
    files = {**ledger.others, **ledger.own}
    with collected_records(tables, ledger.store, files, "standing", columns, folder.collected) as answers:
        copied = f"""
            SELECT answers.* REPLACE (coalesce(renamed.item_id, answers.id) AS id)
            FROM ({answers}) AS answers LEFT JOIN renamed USING (position)"""
        execute(tables, f"COPY ({copied}) TO {text(folder.reused)} (FORMAT parquet)")
    drop_repeats(tables, folder.reused)


def count_items(tables: Tables, folder: RunFolder) -> dict[str, int]:
    """Return the numbers of answered, reused, changed, retried, refreshed, left out and called items by name."""
    found = execute(
        tables,
        f"""
        SELECT (SELECT count(*) FROM answered) AS answered, (SELECT count(*) FROM standing) AS reused,
            count(*) FILTER (tried.position IS NULL AND met.position IS NOT NULL) AS changed,
            count(tried.position) FILTER (NOT tried.had_an_answer OR answered.position IS NOT NULL) AS retried,
            count(*) FILTER (tried.had_an_answer AND answered.position IS NULL) AS refreshed,
            (SELECT count(*) FROM open ANTI JOIN {file_text(folder.called)} USING (position)) AS left_out,
            (SELECT count(*) FROM {file_text(folder.called)}) AS called
        FROM wanted ANTI JOIN standing USING (position) LEFT JOIN tried USING (position)
        LEFT JOIN answered USING (position)
        LEFT JOIN (SELECT DISTINCT position FROM lookups SEMI JOIN past USING (id_fingerprint)) AS met
            USING (position)""",
    )
    names = [str(column[0]) for column in found.description or ()]
    return {name: int(count) for name, count in zip(names, found.fetchone() or (), strict=True)}


def seconds_per_item(tables: Tables, runs: Store) -> float | None:
    """Return the average duration of a sample of items in earlier runs, including waits; None without earlier runs."""
    files = list(record_files(runs))
    view_records(tables, runs, files[:: len(files) // _SAMPLE_FILES + 1], view="sample")
    tried = f"SELECT seconds FROM sample WHERE attempts > 0 LIMIT {_SAMPLE_RECORDS}"
    found = execute(tables, f"SELECT avg(seconds) FROM ({tried})").fetchone()
    return None if found is None else found[0]
