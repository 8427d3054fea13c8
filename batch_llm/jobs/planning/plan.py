"""Planning of a run: reads the source, finds earlier answers and writes shard files with the items to call."""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from itertools import chain, islice, repeat
from pathlib import Path
from typing import Any

import duckdb

from batch_llm.errors import JobError
from batch_llm.jobs.job import BatchJob
from batch_llm.jobs.ledger.records import next_number
from batch_llm.jobs.ledger.run_folder import RunFolder, run_folder
from batch_llm.jobs.prompts import Prompt
from batch_llm.jobs.run_types import Plan, ShardRef
from batch_llm.jobs.sinks import output_columns
from batch_llm.jobs.sources import Source
from batch_llm.jobs.spending.budgets import budgets_of
from batch_llm.jobs.storage.duckdb_session import Tables, execute, file_text, job_error, open_tables, rows_of
from batch_llm.jobs.storage.json_files import to_json, write_whole
from batch_llm.jobs.storage.permissions import make_folder, restrict_folder
from batch_llm.jobs.storage.position_ranges import position_ranges

from .canary import choose_canary, with_expected_cost
from .items import id_column, make_items, number_repeats, read_prompt, repeated_ids, staged_columns, write_items
from .max_tokens_reuse import record_max_tokens
from .parallelism import shard_size_of
from .preflight import check_and_open, check_sinks, setting_warnings
from .prior_answers import count_items, find_answers, seconds_per_item
from .refreshes import Refresh, refresh_of
from .source_size import shrunk_source


def plan(job: BatchJob, run_id: str, *, strategy: str = "", lease: int = 0) -> Plan:
    """Read the source once, in bounded memory, and write the items to call into shard files.

    Items that any run of this job's name has answered with the same id and key are left out. A run that continues after
    a crash or a retry is planned again, because other runs may have answered some of its items in the meantime.

    Args:
        job: The job.
        run_id: Id of the run and name of its folder.
        strategy: Name of a strategy that the caller passes; it is part of every key.
        lease: Number of the lease of the run; 0 for none.

    Raises:
        JobError: The job cannot run; the message says in one line what is wrong, where and what to do.

    Example:
        >>> planned = plan(job, "first")  # doctest: +SKIP
        >>> [shard.items for shard in planned.shards]  # doctest: +SKIP
        [20, 500, 480]
    """
    folder = run_folder(job, run_id)
    folder.stop.unlink(missing_ok=True)
    with open_tables() as tables:
        checked = check_and_open(tables, job, folder.runs, strategy=strategy)
        try:
            made = make_plan(job, checked.source, folder, strategy, lease)
            if checked.columns != (columns := tuple(staged_columns(tables, folder.rows))):
                check_sinks(job, checked.output, columns)
            if warning := shrunk_source(tables, job, folder.runs, made.total):
                made = replace(made, warnings=(*made.warnings, warning))
            warnings = (*checked.source.warnings(), *(() if strategy else setting_warnings(job)))
            made = replace(made, warnings=(*made.warnings, *warnings))
            if made.canary.items:
                made = replace(made, canary=with_expected_cost(tables, job, folder, made.canary, strategy))
            _write_plan(tables, job, folder, made)
        except duckdb.Error as error:
            raise job_error(f"source {job.source!r}", error) from error
        except OSError as error:
            raise JobError(f"the plan cannot be written to {folder.path}: {error}") from error
    return made


def _write_plan(tables: Tables, job: BatchJob, folder: RunFolder, made: Plan) -> None:
    record_max_tokens(job, folder.runs)
    calls, characters = sizes_of_calls(tables, folder)
    about = {"source": job.source, "model": job.model, "limit": job.limit, "budgets": budgets_of(job)}
    about |= {"called": calls, "characters": characters, "failure_threshold": job.failure_threshold}
    write_whole(folder.plan, to_json({**asdict(made), **about, "planned_at": time.time()}))
    restrict_folder(folder.path)
    folder.copy_to_ledger(folder.plan)


def make_plan(job: BatchJob, source: Source, folder: RunFolder, strategy: str = "", lease: int = 0) -> Plan:
    """Make a plan in a folder; the source's session then has the tables that `find_answers` tells of."""
    tables = source.tables
    _make_room(folder)
    broken_rows = source.stage(folder.rows, job.limit)
    columns = staged_columns(tables, folder.rows)
    items = make_items(tables, job, folder.rows, broken_rows, strategy)
    total, broken = write_items(tables, items, folder.items, folder.prompts)
    if not total:
        raise JobError(f"source {job.source!r} has no rows")
    _check_ids(tables, folder.items, id_column(job, columns))
    refresh = refresh_of(job, folder)
    damaged = _find_answers(tables, job, folder, refresh, strategy)
    known = count_items(tables, folder)
    canary = choose_canary(tables, job, folder, strategy)
    left = known.pop("called") - canary.items
    size = job.shard_size or shard_size_of(job, left, seconds_per_item(tables, folder.runs), calls_model=not strategy)
    sizes = chain([canary.items] if canary.items else [], repeat(size))
    shards = tuple(_write_shards(tables, folder, sizes, lease))
    runs = None if refresh is None else refresh.runs
    notes = (*output_columns(columns, job.output_schema).notes, *_notes(job, broken, runs, known["reused"]))
    if damaged:
        notes += (f"Damaged records in the ledger, whose items are called again: {damaged}.",)
    return Plan(
        str(folder.path),
        total,
        broken,
        shards=shards,
        notes=notes,
        canary=canary,
        refreshes=runs,
        lease=lease,
        limit=job.limit,
        warnings=(),
        **known,
    )


def _find_answers(tables: Tables, job: BatchJob, folder: RunFolder, refresh: Refresh | None, strategy: str) -> int:
    try:
        return find_answers(tables, job, folder, refresh, strategy)
    except duckdb.Error as error:
        raise job_error(f"ledger {folder.runs.address}", error) from error


def sizes_of_calls(tables: Tables, folder: RunFolder) -> tuple[int, int]:
    """Return the number of prompts that a plan sends, and their total number of characters."""
    row = execute(
        tables,
        f"""
        SELECT count(*), coalesce(sum(characters), 0)::BIGINT
        FROM {file_text(folder.items)} SEMI JOIN {file_text(folder.called)} USING (position)""",
    ).fetchone()
    calls, characters = row or (0, 0)
    return int(calls), int(characters)


def _make_room(folder: RunFolder) -> None:
    """Remove the files of an earlier plan of the run; records in the ledger are kept."""
    folder.clear()
    shutil.rmtree(folder.progress, ignore_errors=True)
    folder.store.remove(["stop"])
    folder.store.remove(["summary.json", "outcomes.parquet"])  # they are outdated, because the run continues
    for path in (folder.shards, folder.progress):
        make_folder(path)


def _check_ids(tables: Tables, items: Path, ids: str | None) -> None:
    if ids is None:
        number_repeats(tables, items)
    elif repeated := repeated_ids(tables, items):
        named = ", ".join(f"{item_id!r} ({count} rows)" for item_id, count in repeated)
        raise JobError(f"ids in column {ids!r} are not unique: {named}; make them unique, or set id_column")


def _write_shards(tables: Tables, folder: RunFolder, sizes: Iterable[int], lease: int) -> Iterator[ShardRef]:
    plan, number = uuid.uuid4().hex[:8], next_number(folder.runs)
    left = _called_items(tables, folder)
    with folder.prompts.open("rb") as prompts:
        for index, size in enumerate(sizes):
            path = folder.shards / f"{index:05d}.jsonl"
            positions: list[int] = []
            with path.open("wb") as file:
                for position, item_id, key, *place in islice(left, size):
                    positions.append(position)
                    named = f'{{"id":{to_json(item_id)},"key":{to_json(key)},"prompt":'
                    file.write(named.encode() + read_prompt(prompts, *place) + b"}\n")
            if not positions:
                path.unlink()
                return
            part = f"n{number:06d}-{plan}-{index:05d}"
            yield ShardRef(index, positions[0], positions[-1], len(positions), str(path), part, lease)


def _called_items(tables: Tables, folder: RunFolder) -> Iterator[tuple[Any, ...]]:
    """Yield position, id, key and prompt offsets of the items to call, in order."""
    for part in position_ranges(tables, folder.items):
        items, called = (part.among(file_text(table), "position") for table in (folder.items, folder.called))
        chosen = f"SELECT position, id, key, starts, ends FROM {items} SEMI JOIN {called} USING (position)"
        yield from rows_of(tables, f"{chosen} ORDER BY position")


def _notes(job: BatchJob, broken: int, refreshes: tuple[str, ...] | None, reused: int) -> Iterator[str]:
    if refreshes:
        yield (
            f"Continues the interrupted refresh of run {refreshes[-1]}: {reused:,} of its answers are reused, and only "
            "the other items are called."
        )
    if not Prompt(job.prompt).columns:
        yield "The prompt uses no column, so it is the same for each row."
    if broken:
        yield f"Broken rows, which fail without a call: {broken}."
