"""Views of the ledger's records: what DuckDB reads of many files at once."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from batch_llm.jobs.storage.duckdb_session import Tables, execute, file_text, session_folder, text
from batch_llm.jobs.storage.permissions import make_folder
from batch_llm.jobs.storage.store import Store

from .checksums import Soundness, copy_sound, soundness_of

_log = logging.getLogger(__name__)

_USUAL_RECORD_BYTES = 16 * 1024 * 1024
"""An answer of a model is some megabytes at most; DuckDB sets aside twice this for each thread that reads."""

# How DuckDB reads a record; the names are those of `Record`.
_COLUMNS = {
    "id": "VARCHAR",
    "key": "VARCHAR",
    "status": "VARCHAR",
    "output": "JSON",
    "input_tokens": "BIGINT",
    "output_tokens": "BIGINT",
    "cached_input_tokens": "BIGINT",
    "cost_usd": "DOUBLE",
    "attempts": "BIGINT",
    "seconds": "DOUBLE",
    "category": "VARCHAR",
    "error": "VARCHAR",
    "retryable": "BOOLEAN",
    "finished_at": "TIMESTAMPTZ",
    "finish_reason": "VARCHAR",
    "number": "BIGINT",
    "check": "VARCHAR",
    "estimated_tokens": "BIGINT",
    "unpriced": "VARCHAR",
    "service_tier": "VARCHAR",
    "call_seconds": "DOUBLE",
}

ID_FINGERPRINT = "md5(id)::UUID"
KEY_FINGERPRINT = "md5(key)::UUID"
FINGERPRINT = "md5(id || chr(0) || key)::UUID"
"""SQL for 16 bytes that stand for an id and a key. What DuckDB groups or joins by text does not always fit into the
memory, however much of it is spilled."""

_STAMP = """(greatest(0, least(coalesce(number, 0), 1099511627776))::HUGEINT * 9007199254740992
    + greatest(0, least(coalesce(epoch_us(finished_at), 0), 9007199254740991))) * 2 + (status = 'succeeded')::INTEGER"""
"""SQL for what orders the records of an item: the number of the plan, then the time, and a success last."""
_SAME = 'fingerprint, stamp, "check", attempts, input_tokens, output_tokens, seconds'
"""What a record and its copy have in common, and two records of an item do not."""

_OWN_NAME = re.compile(r".*-([0-9a-f]{32}(?:\.\d{6})?)\.jsonl")
_RUN_OF_A_FILE = "([^/]+)/ledger/[^/]+$"


def view_records(
    tables: Tables, store: Store, files: Iterable[str], *, view: str = "records", with_run: bool = False
) -> int:
    """Let the session see the records in some files as a view, each once; torn lines and damaged ones are left out.

    It has the fields of a `Record`, and `fingerprint`, `id_fingerprint`, and `stamp`: the record of an item that
    counts is the one with the highest stamp.

    Args:
        tables: The session.
        store: Where the files are.
        files: Which ones.
        view: The name of the view.
        with_run: Whether the view has a column `run` as well: the id of the run that wrote the record.

    Returns:
        How many records were left out because they are damaged.

    Raises:
        OSError: A file cannot be read.
    """
    wanted = list(files)
    found = [_readable(tables, store, file) for file in wanted]
    longest = max((about.longest for _, about in found), default=0)
    columns = ", ".join(f"{text(name)}: {text(kind)}" for name, kind in _COLUMNS.items())
    added = {"fingerprint": "UUID", "id_fingerprint": "UUID", "stamp": "HUGEINT"}
    added |= {"run": "VARCHAR"} if with_run else {}
    run = f", regexp_extract(filename, {text(_RUN_OF_A_FILE)}, 1) AS run" if with_run else ""
    nothing = ", ".join(f'NULL::{kind} AS "{name}"' for name, kind in {**_COLUMNS, **added}.items())
    names = ", ".join(file_text(path) for path, _ in found)
    query = (
        f"SELECT *{' EXCLUDE (filename)' if with_run else ''}, {FINGERPRINT} AS fingerprint, "
        f"{ID_FINGERPRINT} AS id_fingerprint, {_STAMP} AS stamp{run} "
        f"FROM read_json([{names}], format='newline_delimited', ignore_errors=true, "
        f"columns={{{columns}}}, maximum_object_size={max(_USUAL_RECORD_BYTES, longest)}, "
        f"filename={str(with_run).lower()}) WHERE id IS NOT NULL AND status IS NOT NULL"
    )
    if _may_have_copies(wanted):
        query = f"SELECT * FROM ({query}) QUALIFY row_number() OVER (PARTITION BY {_SAME}) = 1"
    tables.execute(f"CREATE OR REPLACE TEMP VIEW {view} AS {query if names else f'SELECT {nothing} WHERE false'}")
    return sum(about.damaged for _, about in found)


def _may_have_copies(files: Sequence[str]) -> bool:
    """Whether a file may have the records of another one: no writer of ours gave it its name, or one gave it twice."""
    made = [found[1] for file in files if (found := _OWN_NAME.fullmatch(file))]
    return len(set(made)) < len(files)


def _readable(tables: Tables, store: Store, file: str) -> tuple[Path, Soundness]:
    """Return a file of this machine with the records of one of the ledger's that can be believed."""
    path = store.copy_here(tables, file)
    about = soundness_of(path)
    if about.is_whole:
        return path, about
    if about.damaged:
        _log.warning("%s/%s: %s damaged records are left out", store.address, file, about.damaged)
    copy = session_folder(tables) / "sound" / hashlib.sha256(str(path).encode()).hexdigest()[:16] / file
    if not copy.exists():
        make_folder(copy.parent)
        copy_sound(path, copy)
    return copy, about


def drop_repeats(tables: Tables, table: Path) -> None:
    """Leave one row for each `position` in a Parquet file: records that nothing tells apart are one."""
    rows = file_text(table)
    counts = execute(tables, f"SELECT count(*), count(DISTINCT position) FROM {rows}").fetchone()
    if counts is None or counts[0] == counts[1]:
        return
    single = table.with_suffix(".single")
    execute(
        tables,
        f"""
        COPY (
            SELECT * EXCLUDE (file_row_number) FROM read_parquet({rows}, file_row_number=true) SEMI JOIN (
                SELECT min(file_row_number) AS file_row_number
                FROM read_parquet({rows}, file_row_number=true) GROUP BY position
            ) USING (file_row_number)
        ) TO {text(single)} (FORMAT parquet)""",
    )
    single.replace(table)
