"""Split: from a source to shard files of what is still to be answered."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any

import duckdb

from batch_llm.errors import JobError

from .check import check
from .files import read_object, to_json, write_whole
from .folder import RunFolder, job_folder, run_folder
from .job import BatchJob
from .ledger import INVALID_INPUT, LedgerWriter, Record, shard_part, view_records
from .prompts import Prompt
from .rows import Item, id_column, input_columns, keep_items, make_items, number_repeats, repeated_ids
from .sinks import output_columns
from .sources import open_source
from .tables import Tables, column_types, job_error, open_tables, rows_of, text


@dataclass(frozen=True, slots=True)
class ShardRef:
    """A part of a run, small enough to travel to another process.

    Attributes:
        index: Its number, from 0.
        first: Position in the source of its first item, from 1.
        last: Position in the source of its last item; items between that have an answer are left out.
        items: Items in it.
        path: The shard file: one line an item with its id, key and prompt.
    """

    index: int
    first: int
    last: int
    items: int
    path: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run will do.

    Attributes:
        folder: The run's folder.
        total: Items of the source, broken rows included.
        broken: Rows that cannot be sent; they fail by themselves and cost nothing.
        reused: Items that an earlier run has answered.
        changed: Items that an earlier run has met with another text, prompt, model, shape or setting.
        retried: Items that earlier runs have met and not answered.
        shards: What is to be answered.
        notes: Sentences for the reader: renamed columns, broken rows.
    """

    folder: str
    total: int
    broken: int
    reused: int
    changed: int
    retried: int
    shards: tuple[ShardRef, ...]
    notes: tuple[str, ...]

    @property
    def new(self) -> int:
        """Items that no earlier run has met; all that are called where the job says `refresh`."""
        return self.total - self.broken - self.reused - self.changed - self.retried


def plan(job: BatchJob, run_id: str, *, strategy: str = "") -> Plan:
    """Read the source once, in bounded memory, and write what is to be answered into shard files.

    Items that any run of this job's name has answered, with the same id and key, are left out. A run that has a plan
    keeps it: whoever asks again, after a crash or by a retry, gets the same shards.

    Args:
        job: The job.
        run_id: Names the run's folder.
        strategy: Name of a strategy that the caller brings; it becomes part of every key.

    Raises:
        JobError: One line: what is wrong, where, what to do.
    """
    folder = run_folder(job, run_id)
    folder.stop.unlink(missing_ok=True)
    made_for = [job.model_dump(mode="json"), strategy]
    known = read_object(folder.plan)
    if known.get("made_for") == json.loads(to_json(made_for)):
        return _from_json(known)
    check(job, strategy=strategy)
    try:
        with open_tables() as tables:
            made = _make(tables, job, folder, strategy)
    except duckdb.Error as error:
        raise job_error(f"source {job.source!r}", error) from error
    except OSError as error:
        raise JobError(f"the plan cannot be written to {folder.path}: {error}") from error
    write_whole(folder.plan, to_json({**asdict(made), "made_for": made_for, "planned_at": time.time()}))
    return made


def _make(tables: Tables, job: BatchJob, folder: RunFolder, strategy: str) -> Plan:
    _clear(folder)
    broken_rows = open_source(tables, job.source).stage(folder.rows, job.limit)
    columns = input_columns(column_types(tables, f"SELECT * FROM {text(folder.rows)}"))
    items = make_items(tables, job, folder.rows, broken_rows, strategy)
    total, broken = _write_items(tables, folder, islice(items, job.limit))
    if not total:
        raise JobError(f"source {job.source!r} has no rows")
    _tell_apart(tables, folder.items, id_column(job, columns))
    _write_reused(tables, job, folder)
    changed, retried = _met_before(tables)
    shards = tuple(_write_shards(tables, folder, job.shard_size))
    left = sum(shard.items for shard in shards)
    notes = (*output_columns(columns, job.output_schema).notes, *_notes(job, broken))
    return Plan(str(folder.path), total, broken, total - broken - left, changed, retried, shards, notes)


def _clear(folder: RunFolder) -> None:
    """Make room for a plan; what the ledger knows of earlier tries stays."""
    for old in (folder.shards, folder.progress):
        shutil.rmtree(old, ignore_errors=True)
        old.mkdir(parents=True)
    folder.ledger.mkdir(exist_ok=True)
    for path in folder.ledger.glob("plan-*.jsonl"):
        path.unlink()


def _write_items(tables: Tables, folder: RunFolder, items: Iterable[Item]) -> tuple[int, int]:
    total = broken = longest = 0
    lines = folder.items.with_suffix(".jsonl")
    with lines.open("wb") as file, LedgerWriter(folder, "plan") as ledger:
        for item in items:
            line = to_json({slot: getattr(item, slot) for slot in Item.__slots__}).encode()
            longest = max(longest, len(line))
            file.write(line + b"\n")
            total += 1
            if item.error is not None:
                broken += 1
                ledger.append(Record(item.id, item.key, "failed", category=INVALID_INPUT, error=item.error))
    keep_items(tables, lines, longest, folder.items)
    return total, broken


def _tell_apart(tables: Tables, items: Path, ids: str | None) -> None:
    if ids is None:
        number_repeats(tables, items)
    elif repeated := repeated_ids(tables, items):
        named = ", ".join(f"{item_id!r} ({count} rows)" for item_id, count in repeated)
        raise JobError(f"ids in column {ids!r} are not unique: {named}; give each row its own, or set id_column")


def _write_reused(tables: Tables, job: BatchJob, folder: RunFolder) -> None:
    """Copy the answers that stand into the run's folder: the run then depends on no other.

    Which they are is found out without the answers themselves, which would not fit into the memory.
    """
    view_records(tables, () if job.refresh else job_folder(job).glob("*/ledger/*.jsonl"))
    tables.execute(f"""
        CREATE TEMP TABLE wanted AS SELECT position, id, key FROM {text(folder.items)} WHERE error IS NULL;
        CREATE TEMP TABLE past AS
        SELECT id, key, max(finished_at) FILTER (status = 'succeeded') AS answered_at
        FROM records SEMI JOIN wanted USING (id) GROUP BY id, key;
        CREATE TEMP TABLE standing AS
        SELECT position, id, key, answered_at AS finished_at FROM wanted JOIN past USING (id, key)
        WHERE answered_at IS NOT NULL""")
    tables.execute(f"""
        COPY (
            SELECT position, records.* EXCLUDE (id, key) FROM records JOIN standing USING (id, key, finished_at)
        ) TO {text(folder.reused)} (FORMAT parquet)""")


def _met_before(tables: Tables) -> tuple[int, int]:
    """Return how many of the items without an answer were met under another key, and how many under this one."""
    row = tables.execute("""
        SELECT count(*) FILTER (past.id IS NULL), count(past.id)
        FROM wanted ANTI JOIN standing USING (position) SEMI JOIN past USING (id) LEFT JOIN past USING (id, key)
        """).fetchone()
    changed, retried = row or (0, 0)
    return int(changed), int(retried)


def _write_shards(tables: Tables, folder: RunFolder, size: int) -> Iterator[ShardRef]:
    left = rows_of(
        tables,
        f"SELECT position, id, key, prompt FROM {text(folder.items)} "
        f"ANTI JOIN (FROM {text(folder.reused)}) USING (position) WHERE error IS NULL ORDER BY position",
    )
    for index in count():
        path = folder.shards / f"{shard_part(index)}.jsonl"
        positions: list[int] = []
        with path.open("w", encoding="utf-8") as file:
            for position, item_id, key, prompt in islice(left, size):
                positions.append(int(str(position)))
                file.write(to_json({"id": item_id, "key": key, "prompt": prompt}) + "\n")
        if not positions:
            path.unlink()
            return
        yield ShardRef(index, positions[0], positions[-1], len(positions), str(path))


def _notes(job: BatchJob, broken: int) -> Iterator[str]:
    if not Prompt(job.prompt).columns:
        yield "The prompt names no column, so it is the same for each row."
    if broken:
        yield f"Broken rows, which fail by themselves: {broken}."


def _from_json(values: dict[str, Any]) -> Plan:
    counts = {name: values[name] for name in ("folder", "total", "broken", "reused", "changed", "retried")}
    shards = tuple(ShardRef(**shard) for shard in values["shards"])
    return Plan(**counts, shards=shards, notes=tuple(values["notes"]))
