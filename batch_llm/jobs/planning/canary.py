"""The canary: the first items of a new or changed job, which run alone and decide whether the run continues."""

from __future__ import annotations

from dataclasses import replace

from batch_llm.jobs.job import BatchJob
from batch_llm.jobs.ledger.run_folder import RunFolder
from batch_llm.jobs.run_types import Canary
from batch_llm.jobs.spending.calibration import calibrate_by_earlier_runs
from batch_llm.jobs.spending.prices import prices_of
from batch_llm.jobs.storage.duckdb_session import Tables, file_text
from batch_llm.jobs.storage.json_files import objects_in, to_json
from batch_llm.jobs.storage.store import Store

from .answer_keys import AnswerKeys

MIN_ITEMS_RATIO = 10
"""Minimum ratio of the items of a run to the items of its canary; smaller runs have no canary."""

_PASSED = "canary.json"
"""File in the folder of a job with the shape of its last successful run."""


def choose_canary(tables: Tables, job: BatchJob, folder: RunFolder, strategy: str = "") -> Canary:
    """Return the canary of a planned run; it has no items if none is needed.

    Raises:
        OSError: The ledger cannot be read.
    """
    shape = AnswerKeys(job, strategy).key(job.prompt)
    (calls,) = tables.execute(f"SELECT count(*) FROM {file_text(folder.called)}").fetchone() or (0,)
    needed = 0 < MIN_ITEMS_RATIO * job.canary < calls and _last_passed(folder.runs) != shape
    return Canary(shape, job.canary if needed else 0)


def with_expected_cost(tables: Tables, job: BatchJob, folder: RunFolder, canary: Canary, strategy: str = "") -> Canary:
    """Return the canary with its expected cost, measured from earlier runs of the job's name."""
    row = tables.execute(f"""
        SELECT avg(size) FROM (
            SELECT characters AS size
            FROM {file_text(folder.items)} SEMI JOIN {file_text(folder.called)} USING (position)
            ORDER BY position LIMIT {canary.items})""").fetchone()
    known = calibrate_by_earlier_runs(tables, job.model, folder.runs, float(row[0]) if row else 0.0)
    each = known and known.cost(prices_of(job, own_strategy=bool(strategy)).cost)
    return canary if each is None else replace(canary, cost_usd=each * canary.items)


def record_passed(runs: Store, canary: Canary) -> None:
    """Record that a run of this shape was successful, so the next run needs no canary.

    Raises:
        OSError: The ledger cannot be written.
    """
    if _last_passed(runs) != canary.shape:
        runs.write(_PASSED, to_json({"shape": canary.shape}).encode())


def _last_passed(runs: Store) -> str:
    return next((str(known.get("shape", "")) for known in objects_in([runs.read(_PASSED) or b""])), "")
