"""What the ledger knows of a run's items: answers that stand, what was tried in vain, how long an item takes."""

from __future__ import annotations

from .folder import RunFolder, job_store
from .gathering import gathered
from .job import BatchJob
from .ledger import FINGERPRINT, ID_FINGERPRINT, record_files, view_records
from .tables import Tables, execute, text

_SAMPLE_FILES, _SAMPLE_RECORDS = 8, 5_000


def find_answers(tables: Tables, job: BatchJob, folder: RunFolder) -> None:
    """Find what this run and others have answered, and copy the others' answers: the run then depends on no other.

    Which they are is found out without the answers themselves, which would not fit into the memory. The session's
    tables: `wanted`, what can be sent; `past`, what other runs have met; `standing`, their answers that stand;
    `open`, what has no answer yet.
    """
    store, run = job_store(job), folder.path.name
    own = record_files(store, f"{run}/ledger/*.jsonl")
    others = {} if job.refresh else {name: size for name, size in record_files(store).items() if name not in own}
    view_records(tables, store, own, view="own_records")
    view_records(tables, store, others)
    execute(
        tables,
        f"""
        CREATE OR REPLACE TEMP TABLE wanted AS
        SELECT position, {FINGERPRINT} AS fingerprint, {ID_FINGERPRINT} AS id_fingerprint
        FROM {text(folder.items)} WHERE error IS NULL;
        CREATE OR REPLACE TEMP TABLE answered AS
        SELECT position FROM wanted SEMI JOIN (FROM own_records WHERE status = 'succeeded') USING (fingerprint);
        CREATE OR REPLACE TEMP TABLE past AS
        SELECT id_fingerprint, fingerprint, max(finished_at) FILTER (status = 'succeeded') AS answered_at
        FROM records SEMI JOIN wanted USING (id_fingerprint) GROUP BY ALL;
        CREATE OR REPLACE TEMP TABLE standing AS
        SELECT position, fingerprint, answered_at AS finished_at
        FROM wanted ANTI JOIN answered USING (position) JOIN past USING (fingerprint) WHERE answered_at IS NOT NULL;
        CREATE OR REPLACE TEMP TABLE open AS
        SELECT position, past.fingerprint IS NOT NULL AS failed_before
        FROM wanted ANTI JOIN answered USING (position) ANTI JOIN standing USING (position)
        LEFT JOIN past USING (fingerprint)""",
    )
    columns = "position, records.* EXCLUDE (fingerprint, id_fingerprint)"
    with gathered(tables, store, others, "standing", columns, folder.gathered) as answers:
        execute(tables, f"COPY ({answers}) TO {text(folder.reused)} (FORMAT parquet)")
    called = f"SELECT position FROM open WHERE {'failed_before' if job.only_failed else 'true'} ORDER BY position"
    execute(tables, f"COPY ({called}) TO {text(folder.called)} (FORMAT parquet)")


def count_known(tables: Tables, folder: RunFolder) -> dict[str, int]:
    """Return counts: what stands, of the rest what others met under another key or this one, and what is called."""
    found = execute(
        tables,
        f"""
        SELECT (SELECT count(*) FROM answered) AS answered, (SELECT count(*) FROM standing) AS reused,
            count(*) FILTER (
                past.fingerprint IS NULL AND wanted.id_fingerprint IN (SELECT id_fingerprint FROM past)
            ) AS changed,
            count(past.fingerprint) AS retried,
            (SELECT count(*) FROM open ANTI JOIN {text(folder.called)} USING (position)) AS left_out,
            (SELECT count(*) FROM {text(folder.called)}) AS called
        FROM wanted ANTI JOIN standing USING (position) LEFT JOIN past USING (fingerprint)""",
    )
    names = [str(column[0]) for column in found.description or ()]
    return {name: int(count) for name, count in zip(names, found.fetchone() or (), strict=True)}


def seconds_of_an_item(tables: Tables, job: BatchJob) -> float | None:
    """Return how long items took in earlier runs, waits included, by a sample; None where there was none."""
    store = job_store(job)
    files = list(record_files(store))
    view_records(tables, store, files[:: len(files) // _SAMPLE_FILES + 1], view="sample")
    tried = f"SELECT seconds FROM sample WHERE attempts > 0 LIMIT {_SAMPLE_RECORDS}"
    found = execute(tables, f"SELECT avg(seconds) FROM ({tried})").fetchone()
    return None if found is None else found[0]
